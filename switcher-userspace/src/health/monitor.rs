//! The tasks that probe.

use std::collections::BTreeMap;
use std::sync::Arc;

use tokio::runtime::Handle;
use tokio::task::JoinHandle;
use tokio::time::{MissedTickBehavior, interval};

use super::probe::CameTo;
use super::{Report, Standing, Tally, Target, exec, probe, targets};
use crate::config::{Config, Health, HealthKind};
use crate::datapath::clients::Bypass;

/// Takes what probes come to.
type Tell = Arc<dyn Fn(Report) + Send + Sync>;

/// Probes every endpoint of a configuration, each in a task of its own.
pub struct Monitor {
    runtime: Handle,
    tell: Tell,
    bypass: Bypass,
    tasks: BTreeMap<Target, (Health, JoinHandle<()>)>,
}

impl Monitor {
    /// Nothing is probed yet. Reports go to `tell`; sockets are exempted by `bypass`.
    pub fn new(
        runtime: Handle,
        bypass: Bypass,
        tell: impl Fn(Report) + Send + Sync + 'static,
    ) -> Self {
        Self {
            runtime,
            tell: Arc::new(tell),
            bypass,
            tasks: BTreeMap::new(),
        }
    }

    /// Probes the endpoints of this configuration from now on. Those that stay as they are go on.
    pub fn sync(&mut self, config: &Config) {
        let mut before = std::mem::take(&mut self.tasks);
        for (target, group) in targets(config) {
            let task = match before.remove(&target) {
                Some((health, task)) if health == group.health => task,
                Some((_, task)) => {
                    task.abort();
                    self.start(&target, &group.health)
                }
                None => self.start(&target, &group.health),
            };
            self.tasks.insert(target, (group.health.clone(), task));
        }
        before.into_values().for_each(|(_, task)| task.abort());
    }

    fn start(&self, target: &Target, health: &Health) -> JoinHandle<()> {
        let (tell, bypass) = (Arc::clone(&self.tell), self.bypass.clone());
        let watch = watch(target.clone(), health.clone(), bypass, tell);
        self.runtime.spawn(watch)
    }
}

impl Drop for Monitor {
    fn drop(&mut self) {
        self.tasks.values().for_each(|(_, task)| task.abort());
    }
}

async fn watch(target: Target, health: Health, bypass: Bypass, tell: Tell) {
    let mut tally = Tally::new(health.rise, health.fall);
    let (mut failed, mut silent) = (0_u32, 0_u32);
    let mut ticks = interval(health.interval);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let passed = match &health.kind {
            HealthKind::Exec(check) => exec::run(check, &target, health.timeout).await,
            kind => probe::probe(kind, target.address, &bypass, health.timeout).await,
        };
        tally.record(passed.is_ok());
        let count = |so_far: u32, goes_on| if goes_on { so_far.saturating_add(1) } else { 0 };
        let came_to = passed.as_ref().err().map(|fault| fault.came_to);
        let theirs = matches!(came_to, Some(CameTo::Silence | CameTo::Answer));
        failed = count(failed, theirs);
        silent = count(silent, came_to == Some(CameTo::Silence));
        let standing = match tally.healthy() {
            Some(true) => Standing::Up,
            _ if silent >= health.fall => Standing::Dead,
            _ if failed >= health.fall => Standing::Failing,
            _ => Standing::Unknown,
        };
        tell(Report {
            target: target.clone(),
            healthy: tally.healthy(),
            reason: passed.err().map(|fault| fault.reason),
            standing,
        });
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::net::TcpListener;
    use tokio::sync::mpsc;
    use tokio::time::timeout;

    use super::*;
    use crate::config;

    #[tokio::test]
    async fn an_endpoint_is_found_up_and_then_down() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("listens");
        let port = listener.local_addr().expect("has an address").port();
        let (sender, mut reports) = mpsc::unbounded_channel();
        let mut monitor = Monitor::new(Handle::current(), Bypass::default(), move |report| {
            let _nobody_listens = sender.send(report);
        });
        monitor.sync(&config(port));

        let mut next = async |healthy| {
            let wanted = async {
                while let Some(report) = reports.recv().await {
                    if report.healthy == Some(healthy) && report.target.address.port() == port {
                        return report;
                    }
                }
                panic!("the monitor has gone");
            };
            timeout(Duration::from_secs(5), wanted)
                .await
                .expect("in time")
        };
        let up = next(true).await;
        assert_eq!((up.target.colour.as_str(), up.reason), ("blue", None));
        drop(listener);
        let down = next(false).await;
        assert_eq!(down.reason.as_deref(), Some("connection refused"));
    }

    fn config(port: u16) -> Config {
        let text = format!(
            r#"
            [agent]
            interfaces = ["eth0"]
            [groups.shop]
            initial = "blue"
            [groups.shop.health]
            kind = "tcp"
            interval = "20ms"
            timeout = "1s"
            rise = 2
            fall = 2
            [groups.shop.services.web]
            vip = "10.0.0.1:80/tcp"
            forward = "local"
            [groups.shop.services.web.endpoints]
            blue = ["10.0.0.1:{port}"]
            green = ["10.0.0.1:1"]
            "#
        );
        let mut config = config::parse("test.toml", text.as_bytes()).expect("a good file");
        // A configuration can't say this, for good reason; here it keeps the test on this host.
        for service in config
            .groups
            .values_mut()
            .flat_map(|it| it.services.values_mut())
        {
            for endpoint in service.endpoints.values_mut().flatten() {
                endpoint.address.set_ip([127, 0, 0, 1].into());
            }
        }
        config
    }
}
