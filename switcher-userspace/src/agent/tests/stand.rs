//! An agent of a test.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use switcher_common::abi::notice::Notice;
use switcher_common::abi::{Counters, Times};
use switcher_common::verdict::Reason;
use switcher_common::word::Word;
use tempfile::TempDir;

use crate::agent::{Asked as Order, Ended, Handle, Setup, Verb, start};
use crate::api::model::{ChangeAnswer, ChangeRequest, GroupStatus};
use crate::config::{self as settings, Config, HealthKind};
use crate::datapath::clients::{Bypass, LocalClients};
use crate::datapath::memory::Memory;
use crate::datapath::{Attachment, Change, Datapath, Flows, Grace, GroupIndex, Have};
use crate::exit::Failure;
use crate::journal::{Journal, Who};

/// A kernel that outlives its agents, and that tests can look into.
#[derive(Clone, Default)]
pub(crate) struct Kernel(
    Arc<Mutex<Memory>>,
    Arc<Mutex<Asked>>,
    Arc<Mutex<Option<Word>>>,
    Arc<AtomicBool>,
);

/// No grace period passes for the settler while this is there; one that the runner waits for does.
pub(crate) struct NoGrace(Arc<AtomicBool>);

impl Drop for NoGrace {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Relaxed);
    }
}

/// How often the kernel was asked for what costs more on larger hosts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Asked {
    /// For everything it has.
    pub(crate) have: usize,
    /// For a counter.
    pub(crate) counters: usize,
    /// To hand buckets over.
    pub(crate) hand_overs: usize,
}

/// An agent with its kernel and its state directory.
pub(crate) struct Stand {
    pub(crate) kernel: Kernel,
    pub(crate) directory: TempDir,
    pub(crate) agent: Handle,
    thread: Option<JoinHandle<Ended>>,
}

impl Kernel {
    pub(crate) fn lock(&self) -> MutexGuard<'_, Memory> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn asked(&self) -> Asked {
        *self.count()
    }

    fn count(&self) -> MutexGuard<'_, Asked> {
        self.1.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn word(&self) -> Word {
        self.lock().word(0)
    }

    /// Somebody stores a word right after the agent's next one.
    pub(crate) fn store_after(&self, word: Word) {
        *self.2.lock().unwrap_or_else(PoisonError::into_inner) = Some(word);
    }

    pub(crate) fn no_grace(&self) -> NoGrace {
        self.3.store(true, Ordering::Relaxed);
        NoGrace(Arc::clone(&self.3))
    }

    /// Stores a word behind the agent's back.
    pub(crate) fn store(&self, word: Word) {
        self.lock().store(0, word);
    }

    /// The id of an endpoint by its port.
    pub(crate) fn endpoint(&self, port: u16) -> u16 {
        let memory = self.lock();
        let mut all = memory.state().endpoints.iter();
        let found = all.find(|(_, endpoint)| endpoint.port.number() == port);
        *found.expect("an endpoint of this port").0
    }

    /// Says how many flows are where.
    pub(crate) fn set_flows(&self, flows: &[(u16, u64)]) {
        let flows: BTreeMap<u16, u64> = flows.iter().copied().collect();
        self.lock().flows.insert(0, flows);
    }
}

impl Stand {
    pub(crate) fn new(text: &str) -> Self {
        Self::with(
            Kernel::default(),
            TempDir::new().expect("a directory"),
            text,
        )
    }

    /// On a kernel and a state directory that may have been used before.
    pub(crate) fn with(kernel: Kernel, directory: TempDir, text: &str) -> Self {
        let (agent, thread) = Self::begin(&kernel, directory.path(), text).expect("starts");
        Self {
            kernel,
            directory,
            agent,
            thread: Some(thread),
        }
    }

    pub(crate) fn begin(
        kernel: &Kernel,
        directory: &Path,
        text: &str,
    ) -> anyhow::Result<(Handle, JoinHandle<Ended>)> {
        let file = directory.join("switcher.toml");
        std::fs::write(&file, text)?;
        start(Setup {
            traces: crate::traces::Traces::default(),
            config: parse(text),
            config_file: file,
            seed: 1,
            journal: Journal::open(directory)?,
            datapath: Box::new(kernel.clone()),
            is_own: Box::new(|ip| ip.is_loopback() || ip == IpAddr::from([10, 0, 0, 1])),
            runtime: tokio::runtime::Handle::current(),
        })
    }

    /// Waits until the agent has ended by itself; why.
    pub(crate) fn ended(mut self) -> Ended {
        let thread = self.thread.take().expect("it was started");
        thread.join().expect("it does not panic")
    }

    /// Ends the agent, keeps the rest.
    pub(crate) fn stop(mut self) -> (Kernel, TempDir) {
        self.agent.stop();
        if let Some(thread) = self.thread.take() {
            thread.join().expect("ends");
        }
        let Self {
            kernel, directory, ..
        } = self;
        (kernel, directory)
    }

    /// Starts another agent where this one was.
    pub(crate) fn restart(self, text: &str) -> Self {
        let (kernel, directory) = self.stop();
        Self::with(kernel, directory, text)
    }

    pub(crate) async fn order(
        &self,
        verb: Verb,
        request: ChangeRequest,
    ) -> Result<ChangeAnswer, Failure> {
        self.order_for("shop", verb, request).await
    }

    pub(crate) async fn order_for(
        &self,
        group: &str,
        verb: Verb,
        request: ChangeRequest,
    ) -> Result<ChangeAnswer, Failure> {
        let who = Who {
            actor: "tester".into(),
            reason: Some("test".into()),
        };
        let asked = Order {
            request,
            ..asked(group, verb, who)
        };
        self.agent
            .ask_later(move |runner, reply| runner.order(asked, reply))
            .await?
    }

    pub(crate) async fn flip(&self) -> Result<ChangeAnswer, Failure> {
        self.order(Verb::Flip, ChangeRequest::default()).await
    }

    pub(crate) async fn status(&self) -> GroupStatus {
        let status = self.agent.ask(|runner| runner.status(Some("shop"))).await;
        let mut status = status.expect("answers").expect("has the group");
        status.groups.remove(0)
    }

    /// Waits until the group is in a phase.
    pub(crate) async fn phase(&self, phase: &str) -> GroupStatus {
        for _ in 0..200 {
            let status = self.status().await;
            if status.phase == phase {
                return status;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        panic!("never {phase}: {:?}", self.status().await);
    }
}

/// An order without details.
pub(crate) fn asked(group: &str, verb: Verb, who: Who) -> Order {
    Order {
        group: group.into(),
        verb,
        request: ChangeRequest::default(),
        who,
    }
}

/// Endpoints of the host itself: ports of blue and green.
pub(crate) fn config(blue: &[u16], green: &[u16]) -> String {
    text("local", "10.0.0.1", blue, green, "kind = \"none\"")
}

/// Endpoints elsewhere, with tags.
pub(crate) fn routed() -> String {
    text("routed", "10.0.0.2", &[8001], &[8002], "kind = \"none\"")
}

/// Endpoints of the host itself whose health is asked.
pub(crate) fn probed() -> String {
    probed_at(&[1], &[2])
}

/// The same at these ports.
pub(crate) fn probed_at(blue: &[u16], green: &[u16]) -> String {
    let health = "kind = \"tcp\"\ninterval = \"50ms\"\ntimeout = \"200ms\"\nrise = 1\nfall = 1";
    text("local", "10.0.0.1", blue, green, health)
}

/// The same, asked once an hour.
pub(crate) fn probed_seldom(blue: &[u16], green: &[u16]) -> String {
    probed_at(blue, green).replacen("\"50ms\"\ntimeout", "\"1h\"\ntimeout", 1)
}

fn text(forward: &str, address: &str, blue: &[u16], green: &[u16], health: &str) -> String {
    let list = |ports: &[u16]| {
        let endpoints = ports.iter().map(|port| format!("\"{address}:{port}\""));
        endpoints.collect::<Vec<_>>().join(", ")
    };
    format!(
        r#"
[agent]
interfaces = ["eth0"]
[groups.shop]
initial = "blue"
[groups.shop.drain]
arm = "50ms"
learn = "200ms"
deadline = "20s"
[groups.shop.health]
{health}
[groups.shop.services.web]
vip = "10.0.0.1:80/tcp"
forward = "{forward}"
[groups.shop.services.web.endpoints]
blue = [{}]
green = [{}]
"#,
        list(blue),
        list(green)
    )
}

fn parse(text: &str) -> Config {
    let mut config = settings::parse("test.toml", text.as_bytes()).expect("a good file");
    // A configuration can't say this, for good reason; here it keeps probes on this host.
    let probed = config
        .groups
        .values_mut()
        .filter(|it| it.health.kind != HealthKind::None);
    for service in probed.flat_map(|group| group.services.values_mut()) {
        for endpoint in service.endpoints.values_mut().flatten() {
            endpoint.address.set_ip(Ipv4Addr::LOCALHOST.into());
        }
    }
    config
}

impl Grace for Kernel {
    fn wait(&self) -> anyhow::Result<Duration> {
        while self.3.load(Ordering::Relaxed) {
            std::thread::sleep(Duration::from_millis(1));
        }
        self.lock().settle()
    }
}

impl Datapath for Kernel {
    fn have(&self) -> anyhow::Result<Have> {
        self.count().have += 1;
        self.lock().have()
    }

    fn apply(&mut self, change: &Change) -> anyhow::Result<()> {
        self.count().hand_overs += usize::from(matches!(change, Change::HandOver { .. }));
        self.lock().apply(change)
    }

    fn set_arming(&mut self, longest: Duration) {
        self.lock().set_arming(longest);
    }

    fn word(&self, group: GroupIndex) -> Word {
        self.lock().word(group)
    }

    fn store(&mut self, group: GroupIndex, word: Word) {
        let other = self.2.lock().unwrap_or_else(PoisonError::into_inner).take();
        self.lock().store(group, other.unwrap_or(word));
    }

    fn times(&self, group: GroupIndex) -> Times {
        self.lock().times(group)
    }

    fn set_times(&mut self, group: GroupIndex, times: Times) {
        self.lock().set_times(group, times);
    }

    fn settle(&mut self) -> anyhow::Result<Duration> {
        self.lock().settle()
    }

    fn grace(&self) -> Option<Arc<dyn Grace>> {
        Some(Arc::new(self.clone()))
    }

    fn forget_counts(&self) {}

    fn open_window(&mut self, group: GroupIndex, flows: u32) -> anyhow::Result<()> {
        self.lock().open_window(group, flows)
    }

    fn close_window(&mut self, group: GroupIndex) -> anyhow::Result<()> {
        self.lock().close_window(group)
    }

    fn give_up(&mut self, group: GroupIndex, epoch: u32) {
        self.lock().give_up(group, epoch);
    }

    fn notices(&mut self) -> Vec<Notice> {
        self.lock().notices()
    }

    fn hold_until(&mut self, group: GroupIndex, at_most: Duration) {
        self.lock().hold_until(group, at_most);
    }

    fn end_connections(&mut self, group: GroupIndex) -> anyhow::Result<u64> {
        self.lock().end_connections(group)
    }

    fn flows(&self, group: GroupIndex, idle: Duration) -> anyhow::Result<Flows> {
        self.lock().flows(group, idle)
    }

    fn masqueraded(&self) -> anyhow::Result<Option<crate::datapath::nat::Masqueraded>> {
        self.lock().masqueraded()
    }

    fn flow_map_used(&self, group: GroupIndex) -> anyhow::Result<f64> {
        self.lock().flow_map_used(group)
    }

    fn counters(&self, cells: &[u32]) -> anyhow::Result<Vec<Counters>> {
        self.count().counters += cells.len();
        self.lock().counters(cells)
    }

    fn reasons(&self) -> anyhow::Result<Vec<(Reason, u64)>> {
        self.lock().reasons()
    }

    fn attachments(&self) -> Vec<Attachment> {
        self.lock().attachments()
    }

    fn attach_again(&mut self, interface: &str) -> anyhow::Result<()> {
        self.lock().attach_again(interface)
    }

    fn is_pinned(&self) -> bool {
        self.lock().is_pinned()
    }

    fn local_clients(&self) -> LocalClients {
        self.lock().local_clients()
    }

    fn steer_clients_again(&mut self) -> anyhow::Result<()> {
        self.lock().steer_clients_again()
    }

    fn bypass(&self) -> Bypass {
        self.lock().bypass()
    }
}
