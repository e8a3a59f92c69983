//! `switcher agent --config FILE`.

use std::net::IpAddr;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::Command;
use std::sync::{Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tracing::{info, warn};

use super::manager;
use crate::agent::{Ended, Handle, Setup, start};
use crate::api::model::ConfigRequest;
use crate::api::{self, Api};
use crate::cli::Log;
use crate::config::{self, Config};
use crate::datapath::kernel::KernelDatapath;
use crate::doctor::{self, Check};
use crate::exit::{Exit, Failure};
use crate::host::{OwnAddresses, links};
use crate::journal::{Journal, Who};
use crate::{listen, log, traces};

/// How long the host's addresses are remembered.
const ADDRESSES_KEEP: Duration = Duration::from_secs(1);

pub(super) fn run(file: &Path, said: &Log) -> Result<Exit, Failure> {
    // After a start from itself it would be called "exe".
    let _nameless = std::fs::write("/proc/self/comm", "switcher");
    let config = config::load(file).map_err(|errors| {
        Failure::new(
            Exit::Usage,
            "start the agent",
            format!("its configuration is invalid\n{errors}"),
        )
        .see(config::PAGE)
    })?;
    log::start(said.log.or(config.agent.log), &said.log_level)
        .map_err(|why| Failure::new(Exit::Usage, "start the log", why))?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        // A second one would be woken for each request, if only to find that there is nothing for it to do.
        .worker_threads(1)
        .enable_all()
        .build()
        .context("start the agent's runtime")?;
    let socket = config.agent.socket.clone();
    let ended = runtime.block_on(serve(config, file));
    // Long polls and probes end with the process, not before it.
    runtime.shutdown_background();
    match ended {
        Ok(Ended::Stopped) => {
            let _already_gone = std::fs::remove_file(socket);
            Ok(Exit::Done)
        }
        Ok(Ended::Bereft) => Err(again().into()),
        Err(error) => {
            let failure = Failure::from(error);
            Err(Failure {
                tried: "start the agent".to_owned(),
                ..failure
            })
        }
    }
}

/// First what can be refused without touching anything, then the kernel, then whoever asks.
async fn serve(config: Config, file: &Path) -> anyhow::Result<Ended> {
    // Before anything that takes time: until somebody listens, a SIGHUP ends the process.
    let signals = Signals::listen()?;
    let socket = config.agent.socket.clone();
    let page = config.agent.page;
    let public = match config.agent.listen {
        Some(address) => Some(listen::bind(address).await?),
        None => None,
    };
    // Bound before anything changes, so that what is wrong is said; answered when there is something to say.
    let secure = match &config.agent.api {
        Some(api) => Some((api::Identity::read(api)?, api::listen(api.listen).await?)),
        None => None,
    };
    let journal = Journal::open(&config.agent.state_dir)?;
    let runtime = tokio::runtime::Handle::current();
    let (traces, exporting) = traces::start(config.agent.traces.as_deref(), &runtime)
        .map_err(|why| Failure::new(Exit::Usage, "", why))?;
    for Check {
        name,
        found,
        advice,
        ..
    } in doctor::dead_ends(&config)
    {
        warn!("{name}: {found}; {advice}");
    }
    let kernel = KernelDatapath::open(&config.agent, journal.seed()?)?;
    let setup = Setup {
        seed: kernel.seed(),
        datapath: Box::new(kernel),
        journal,
        is_own: Box::new(own_addresses()?),
        runtime,
        traces,
        config_file: std::path::absolute(file).unwrap_or_else(|_| file.to_owned()),
        config,
    };
    let (agent, thread) = start(setup)?;
    let follower = agent.clone();
    links::follow(move || follower.links_changed()).context("follow what becomes of links")?;
    let listener = api::bind(&socket)?;
    let api = Api::new(agent.clone(), nix::unistd::geteuid().as_raw());
    // These end with the runtime.
    if let Some((identity, secure)) = secure {
        tokio::spawn(api::serve_tls(secure, identity, api.clone()));
    }
    tokio::spawn(api::serve(listener, api));
    if let Some(public) = public {
        tokio::spawn(listen::serve(public, agent.clone(), page));
    }
    give_back();
    manager::ready();
    tokio::spawn(manager::show(agent.clone()));
    tokio::spawn(manager::watch(agent.clone()));
    info!(socket = %socket.display(), version = env!("CARGO_PKG_VERSION"), "ready");
    let ended = until_stopped(signals, &agent, thread).await;
    exporting.flush().await;
    ended
}

/// What loading the programs took is the host's again; the allocator would keep it.
fn give_back() {
    #[cfg(target_env = "gnu")]
    // SAFETY: takes no pointers, and locks what it touches.
    unsafe {
        libc::malloc_trim(0);
    }
}

/// The signals that mean something to the agent.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hang_up: Signal,
}

impl Signals {
    fn listen() -> anyhow::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hang_up: signal(SignalKind::hangup())?,
        })
    }
}

/// Until a signal says otherwise. Traffic goes on in any case.
async fn until_stopped(
    mut signals: Signals,
    agent: &Handle,
    thread: JoinHandle<Ended>,
) -> anyhow::Result<Ended> {
    let mut runner = tokio::task::spawn_blocking(move || thread.join());
    loop {
        tokio::select! {
            _ = signals.terminate.recv() => break,
            _ = signals.interrupt.recv() => break,
            _ = signals.hang_up.recv() => take_again(agent),
            ended = &mut runner => return match ended {
                Ok(Ok(ended)) => Ok(ended),
                Ok(Err(_)) | Err(_) => bail!("the agent's runner has ended; the log above says why"),
            },
        }
    }
    manager::stopping();
    agent.stop();
    let _ended = runner.await;
    Ok(Ended::Stopped)
}

/// The same program once more, in this process: whoever watches it notices nothing. Returns only if that fails.
fn again() -> anyhow::Error {
    let words = std::env::args_os().skip(1);
    let refused = Command::new("/proc/self/exe").args(words).exec();
    anyhow::Error::new(refused).context("start the agent anew")
}

/// SIGHUP: the file as it is now.
fn take_again(agent: &Handle) {
    manager::reloading();
    agent.tell(|runner| {
        let who = Who {
            actor: "SIGHUP".to_owned(),
            reason: None,
        };
        match runner.apply(&ConfigRequest::default(), &who) {
            Ok((answer, _)) if answer.changes.is_empty() => {
                info!("the configuration changes nothing");
            }
            Ok((answer, _)) => answer.summary.iter().for_each(|line| info!("{line}")),
            Err(failure) => warn!("{failure}"),
        }
        manager::ready();
    });
}

/// Whether an address is this host's own. Addresses come and go, and a plan asks for many.
fn own_addresses() -> anyhow::Result<impl Fn(IpAddr) -> bool + Send> {
    let read = || OwnAddresses::read().context("read this host's addresses");
    let known = Mutex::new((Instant::now(), read()?));
    Ok(move |address| {
        let mut known = known.lock().unwrap_or_else(PoisonError::into_inner);
        if known.0.elapsed() > ADDRESSES_KEEP {
            match read() {
                Ok(addresses) => *known = (Instant::now(), addresses),
                Err(error) => warn!("{error:#}"),
            }
        }
        known.1.contains(address)
    })
}
