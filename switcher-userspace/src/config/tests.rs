//! What files mean, what is said of bad ones, and that nothing makes the reader fall over.

mod cases;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::release::{Bake, FlapBudget, GateRule, Hold, Moment, Policy};

/// The file that cases start from.
const BASE: &str = include_str!("tests/base.toml");
/// The file of the contract, less what later versions bring.
const FULL: &str = include_str!("tests/full.toml");

#[test]
fn defaults_are_filled_in() {
    let config = parse("switcher.toml", BASE.as_bytes()).expect("the base is good");
    let agent = AgentConfig {
        interfaces: vec![interface("eth0", XdpMode::Native)],
        socket: "/run/switcher/switcher.sock".into(),
        state_dir: "/var/lib/switcher".into(),
        bpffs: "/sys/fs/bpf/switcher".into(),
        flows: 1_048_576,
        listen: None,
        page: false,
        log: None,
        traces: None,
        local_clients: true,
        repair: true,
        cgroup: None,
        masquerade: Masquerade {
            addresses: Vec::new(),
            ports: 16_384..=32_767,
            flows: 262_144,
            established: Duration::from_secs(7200),
            opening: Duration::from_secs(30),
            closing: Duration::from_secs(30),
            udp: Duration::from_secs(60),
        },
        api: None,
        roles: None,
    };
    assert_eq!(config.agent, agent);
    let shop = &config.groups["shop"];
    assert_eq!(shop.initial, "blue");
    assert_eq!(shop.colours, ["blue", "green"]);
    assert_eq!(shop.drain, drain(3, 120, 3600));
    assert_eq!((shop.policy(), shop.bake), (Policy::default(), None));
    assert_eq!(shop.health, health(HealthKind::Tcp, 1000, 1000, 2, 3));
    let web = ServiceConfig {
        name: "web".into(),
        vip: address("203.0.113.10:443"),
        protocol: Protocol::Tcp,
        forward: Forward::Auto,
        hash: HashMode::Flow,
        tunnel_source: None,
        udp: UdpMode::Flow,
        preview: None,
        endpoints: [
            ("blue".into(), vec![endpoint("203.0.113.10:8443", 1)]),
            ("green".into(), vec![endpoint("203.0.113.10:9443", 1)]),
        ]
        .into(),
    };
    assert_eq!(shop.services["web"], web);
}

#[test]
fn everything_typed_is_meant() {
    let config = parse("switcher.toml", FULL.as_bytes()).expect("the file is good");
    let interfaces = [
        interface("eth0", XdpMode::Generic),
        interface("eth1.100", XdpMode::Native),
        interface("br0", XdpMode::Tc),
    ];
    assert_eq!(config.agent.interfaces, interfaces);
    assert_eq!(config.agent.socket, PathBuf::from("/tmp/s.sock"));
    assert_eq!(config.agent.state_dir, PathBuf::from("/tmp/state"));
    assert_eq!(config.agent.bpffs, PathBuf::from("/tmp/bpf"));
    assert_eq!(config.agent.flows, 4096);
    assert!(!config.agent.local_clients && !config.agent.repair);
    assert_eq!(config.agent.listen, "[::]:9464".parse().ok());
    assert!(config.agent.page);
    assert_eq!(config.agent.log, Some(crate::log::LogFormat::Json));
    assert_eq!(config.agent.traces.as_deref(), Some("http://[::1]:4318"));
    assert_eq!(config.agent.cgroup, Some("/tmp/cgroup".into()));

    let masquerade = Masquerade {
        addresses: vec![[203, 0, 113, 11].into(), [203, 0, 113, 12].into()],
        ports: 10_000..=10_999,
        flows: 1000,
        established: Duration::from_secs(600),
        opening: Duration::from_secs(5),
        closing: Duration::from_secs(1),
        udp: Duration::from_millis(500),
    };
    assert_eq!(config.agent.masquerade, masquerade);

    let api = Api {
        listen: address("[::]:9465"),
        cert: "/tmp/agent.crt".into(),
        key: "/tmp/agent.key".into(),
        client_ca: "/tmp/clients.crt".into(),
    };
    assert_eq!(config.agent.api, Some(api));
    let roles = vec![
        (
            Role::Viewer,
            Member::Certificate("grafana.internal".to_owned()),
        ),
        (Role::Viewer, Member::Gid(27)),
        (
            Role::Operator,
            Member::Certificate("CI of the shop".to_owned()),
        ),
        (Role::Admin, Member::Uid(1000)),
    ];
    assert_eq!(config.agent.roles, Some(Roles(roles)));

    let shop = &config.groups["shop"];
    assert_eq!(shop.colours, ["green", "blue"], "as listed");
    assert_eq!(shop.drain, drain(0, 90, 7200));
    let http = HealthKind::Http {
        path: "/healthz?full=1".into(),
    };
    let checked = Health {
        min_healthy: Duration::from_secs(10),
        ..health(http, 500, 250, 1, 5)
    };
    assert_eq!(shop.health, checked);
    let rule = |open, hours: Option<u64>| GateRule {
        open,
        expires: hours.map(|it| Duration::from_secs(it * 3600)),
    };
    let gates = [
        ("ops".to_owned(), rule(true, None)),
        ("qa".to_owned(), rule(false, Some(8))),
    ];
    let policy = Policy {
        gates: gates.into(),
        budget: Some(FlapBudget {
            switches: 4,
            within: Duration::from_secs(3600),
        }),
        automatic: Some(Duration::from_secs(120)),
        canary: [(5, 120), (50, 300)]
            .map(|(percent, seconds)| Hold {
                percent,
                time: Duration::from_secs(seconds),
            })
            .to_vec(),
        freeze: Some("year-end accounts".to_owned()),
        hooks: [Moment::PreFlip, Moment::RolledBack, Moment::Drained].into(),
    };
    assert_eq!(shop.policy(), policy);
    let bake = Bake {
        time: Duration::from_secs(300),
        resets: 7,
        failed: 3,
        sample: 20,
    };
    assert_eq!(shop.bake, Some(bake));
    let short = FULL.replace(
        "{ for = \"5m\", resets = 7, failed = 3, sample = 20 }",
        "\"5m\"",
    );
    let short = parse("switcher.toml", short.as_bytes()).expect("likewise");
    let defaults = Bake {
        resets: 10,
        failed: 10,
        sample: 50,
        ..bake
    };
    assert_eq!(short.groups["shop"].bake, Some(defaults));
    assert_eq!(shop.hooks, hooks());
    let web = &shop.services["web"];
    assert_eq!(web.forward, Forward::Local);
    assert_eq!(web.hash, HashMode::Source);
    assert_eq!(web.preview, Some(address("203.0.113.10:9443")));
    let green = [
        endpoint("203.0.113.10:9444", 1),
        endpoint("203.0.113.10:9445", 1000),
    ];
    assert_eq!(web.endpoints["green"], green);
    assert_eq!(
        web.endpoints["blue"],
        [endpoint("203.0.113.10:443", 1)],
        "adopted"
    );

    let news = &shop.services["news"];
    assert_eq!(news.forward, Forward::Ipip, "IPv4 inside IPv6");
    let prefix = Prefix {
        address: "2001:db8:7::".parse().expect("an address"),
        length: 64,
    };
    assert_eq!(news.tunnel_source, Some(prefix));

    let dns = &config.groups["dns"];
    let argv = ["/usr/bin/dig", "-p", "53"].map(str::to_owned);
    let exec = HealthKind::Exec(Program {
        argv: argv.to_vec(),
        user: Some("nobody".to_owned()),
    });
    assert_eq!(dns.health.kind, exec, "a program may ask UDP");
    let service = &dns.services["dns.v4"];
    assert_eq!(
        (service.protocol, service.udp),
        (Protocol::Udp, UdpMode::Packet)
    );
    assert_eq!(
        service.vip,
        address("203.0.113.10:443"),
        "UDP 443 is not TCP 443"
    );
    assert_eq!(service.forward, Forward::Routed);
}

#[test]
fn the_digest_is_that_of_the_bytes() {
    let digest = |text: &str| parse("", text.as_bytes()).expect("good").digest;
    let minimal = "agent.interfaces = [\"eth0\"]\n";
    assert_eq!(digest(minimal).len(), 64);
    assert_eq!(digest(minimal), digest(minimal));
    assert_ne!(digest(minimal), digest(&format!("{minimal}\n")));
}

#[test]
fn a_file_that_cannot_be_read_is_an_error_of_the_file() {
    let error = load(std::path::Path::new("/nonexistent/switcher.toml")).expect_err("no file");
    let text = error.to_string();
    assert!(
        text.starts_with("/nonexistent/switcher.toml: can't be read: No such file"),
        "{text}"
    );
}

#[test]
fn bytes_that_are_not_text_are_an_error_of_their_line() {
    let error = parse("switcher.toml", b"[agent]\ninterfaces = \"\xff\"").expect_err("not UTF-8");
    assert_eq!(
        error.to_string(),
        "switcher.toml:2:15: not UTF-8\n    save the file as UTF-8"
    );
}

#[test]
fn there_are_limits_to_how_many() {
    let group = |index: usize| format!("g{index} = {{}}\n");
    let groups: String = (0..257).map(group).collect();
    expect_error(
        &format!("[groups]\n{groups}"),
        "the file has 257 groups",
        "at most 256",
    );

    let service = |index: usize| format!("s{index} = {{}}\n");
    let services: String = (0..16_385).map(service).collect();
    expect_error(
        &format!("[groups.g.services]\n{services}"),
        "16385 services",
        "at most 16384",
    );

    let endpoint = |index: usize| {
        let (high, low) = (index / 62_500, index % 62_500);
        format!("\"10.{high}.{}.{}:80\",", low / 250, low % 250 + 1)
    };
    let endpoints: String = (0..65_535).map(endpoint).collect();
    let text = format!("[groups.g.services.s.endpoints]\nblue = [{endpoints}]");
    expect_error(&text, "65535 endpoints", "at most 65534");
}

proptest! {
    #[test]
    fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..512)) {
        check_total(&bytes)?;
    }

    #[test]
    fn no_text_makes_it_panic(text in "[\\[\\]{}=.,\"'# \na-z0-9é:/_-]{0,200}") {
        check_total(text.as_bytes())?;
    }

    #[test]
    fn no_edit_makes_it_panic(
        at in any::<prop::sample::Index>(),
        length in 0usize..40,
        with in prop_oneof![any::<String>(), words()],
    ) {
        let mut bytes = FULL.as_bytes().to_vec();
        let start = at.index(bytes.len());
        let end = (start + length).min(bytes.len());
        bytes.splice(start..end, with.into_bytes());
        check_total(&bytes)?;
    }

    #[test]
    fn no_value_makes_it_panic(line in any::<prop::sample::Index>(), value in words()) {
        let mut lines: Vec<String> = FULL.lines().map(str::to_owned).collect();
        let line = line.index(lines.len());
        if let Some((key, _)) = lines[line].split_once('=') {
            lines[line] = format!("{key}= {value}");
        }
        check_total(lines.join("\n").as_bytes())?;
    }
}

/// Values that some key might take for its own.
fn words() -> impl Strategy<Value = String> {
    prop::sample::select(vec![
        "\"\"",
        "0",
        "-1",
        "1e400",
        "true",
        "[]",
        "{}",
        "[[]]",
        "[{}]",
        "1979-05-27",
        "\"tcp\"",
        "\"[::]:0/tcp\"",
        "\"0.0.0.0:0\"",
        "\"9999999999999999999999y\"",
        "99999999999999999999",
        "\"\\u0000\"",
        "\"/\"",
        "\"blue\"",
        "[\"\", \"a\", \"a\"]",
        "{ a = 1, \"\" = { b = [] } }",
    ])
    .prop_map(str::to_owned)
}

/// Either a configuration, or errors that point into the file.
fn check_total(bytes: &[u8]) -> Result<(), TestCaseError> {
    let Err(ConfigErrors(errors)) = parse("switcher.toml", bytes) else {
        return Ok(());
    };
    prop_assert!(!errors.is_empty());
    let text = String::from_utf8_lossy(bytes);
    let lines: Vec<&str> = text.split('\n').collect();
    for error in errors {
        prop_assert!((1..=lines.len()).contains(&error.line), "{error}");
        let columns = lines[error.line - 1].chars().count() + 1;
        prop_assert!((1..=columns).contains(&error.column), "{error}");
        prop_assert!(!error.message.is_empty());
    }
    Ok(())
}

fn expect_error(text: &str, message: &str, advice: &str) {
    let ConfigErrors(errors) = parse("switcher.toml", text.as_bytes()).expect_err(message);
    let said = errors
        .iter()
        .any(|it| it.message.contains(message) && it.advice.contains(advice));
    assert!(said, "{message}: not said");
}

fn hooks() -> Vec<Hook> {
    let receiver = |format| Webhook {
        url: "https://ci.internal/hooks".into(),
        format,
        secret_file: None,
        ca_file: None,
        metadata: BTreeMap::new(),
    };
    let signed = Webhook {
        secret_file: Some("/etc/switcher/key".into()),
        ca_file: Some("/etc/switcher/ca.pem".into()),
        ..receiver(Format::CloudEvents)
    };
    let metadata = BTreeMap::from([("cmd".to_owned(), "smoke".to_owned())]);
    let flagger = Webhook {
        metadata,
        ..receiver(Format::Flagger)
    };
    let smoke = Program {
        argv: vec!["/usr/local/bin/smoke".into()],
        user: Some("nobody".into()),
    };
    let hook = |name: &str, on, what, abort| Hook {
        name: name.into(),
        on,
        what,
        timeout: Duration::from_secs(30),
        retries: if abort { 0 } else { 3 },
        abort,
    };
    let moment = On::Moment(Moment::PreFlip);
    vec![
        Hook {
            timeout: Duration::from_secs(5),
            retries: 2,
            ..hook("smoke", moment, HookKind::Exec(smoke), true)
        },
        hook("event-2", On::Event, HookKind::Web(signed), false),
        hook(
            "pre-rollout-3",
            moment,
            HookKind::Web(flagger.clone()),
            true,
        ),
        Hook {
            retries: 0,
            ..hook("post-rollout-4", On::Over, HookKind::Web(flagger), false)
        },
    ]
}

fn drain(arm: u64, learn: u64, deadline: u64) -> Drain {
    let [arm, learn, deadline] = [arm, learn, deadline].map(Duration::from_secs);
    Drain {
        arm,
        learn,
        deadline,
    }
}

fn health(kind: HealthKind, interval: u64, timeout: u64, rise: u32, fall: u32) -> Health {
    let [interval, timeout] = [interval, timeout].map(Duration::from_millis);
    Health {
        kind,
        interval,
        timeout,
        rise,
        fall,
        min_healthy: Duration::ZERO,
    }
}

fn interface(name: &str, xdp: XdpMode) -> InterfaceConfig {
    InterfaceConfig {
        name: name.into(),
        xdp,
    }
}

fn endpoint(text: &str, weight: u16) -> EndpointConfig {
    EndpointConfig {
        address: address(text),
        weight,
    }
}

fn address(text: &str) -> SocketAddr {
    text.parse().expect("an address")
}
