//! Drafts and what comes of them.

use super::*;
use crate::config::XdpMode;

#[test]
fn few_options_make_a_whole_configuration() {
    let ready = made(&args(&["443"], &["8443"], &["9444"]));
    let config = &ready.config;
    assert_eq!(config.agent.interfaces[0].name, "eth0");
    assert_eq!(config.agent.interfaces[0].xdp, XdpMode::Tc);
    let service = &config.groups["shop"].services["web"];
    assert_eq!(service.vip.to_string(), "203.0.113.10:443");
    assert_eq!(service.forward, Forward::Local);
    let at = |colour: &str| service.endpoints[colour][0].address.to_string();
    assert_eq!(at("blue"), "203.0.113.10:8443");
    assert_eq!(at("green"), "203.0.113.10:9444");
    assert!(ready.text.contains("eth0: tc; a veth"), "{}", ready.text);
}

#[test]
fn whoever_serves_now_is_blue_if_nobody_is_named() {
    let ready = made(&args(&["443"], &[], &["9444"]));
    let service = &ready.config.groups["shop"].services["web"];
    assert_eq!(service.endpoints["blue"][0].address, service.vip);
    assert!(ready.text.contains("the VIP itself"), "{}", ready.text);
}

#[test]
fn servers_elsewhere_are_masqueraded() {
    let ready = made(&args(
        &["203.0.113.10:443"],
        &["192.0.2.7"],
        &["192.0.2.8:9444"],
    ));
    let service = &ready.config.groups["shop"].services["web"];
    assert_eq!(service.forward, Forward::Masquerade);
    assert_eq!(
        service.endpoints["blue"][0].address.to_string(),
        "192.0.2.7:443"
    );
}

#[test]
fn everything_can_be_chosen() {
    let ready = made(&InitArgs {
        interfaces: vec!["eth7".into(), "eth0".into()],
        xdp: Some("generic".into()),
        group: "a.b".into(),
        service: "dns".into(),
        preview: Some("5353".into()),
        forward: Some("routed".into()),
        listen: Some("[::]:9464".into()),
        ..args(
            &["[2001:db8::1]:53/udp"],
            &["2001:db8::2"],
            &["2001:db8::3"],
        )
    });
    let config = &ready.config;
    assert_eq!(config.agent.interfaces.len(), 2);
    assert!(
        config
            .agent
            .interfaces
            .iter()
            .all(|it| it.xdp == XdpMode::Generic)
    );
    assert_eq!(config.agent.listen.map(|it| it.port()), Some(9464));
    let service = &config.groups["a.b"].services["dns"];
    assert_eq!(service.forward, Forward::Routed);
    assert_eq!(service.preview.map(|it| it.port()), Some(5353));
    assert_eq!(service.vip.to_string(), "[2001:db8::1]:53");
}

/// What is commented out is as good as what is not.
#[test]
fn every_setting_that_is_off_can_be_switched_on() {
    for args in [
        args(&["443"], &["8443"], &["9444"]),
        args(&["53/udp"], &["5301"], &["5302"]),
    ] {
        let text = made(&args).text;
        let off = text
            .lines()
            .filter(|it| it.starts_with('#') && !it.starts_with("# "));
        assert!(off.count() > 6, "{text}");
        let on = |line: &str| match line.strip_prefix('#') {
            Some(setting) if !setting.starts_with(' ') => format!("{setting}\n"),
            _ => format!("{line}\n"),
        };
        let text: String = text.lines().map(on).collect();
        let parsed = config::parse("on", text.as_bytes());
        parsed.unwrap_or_else(|errors| panic!("{errors}\n{text}"));
    }
}

#[test]
fn what_is_missing_or_wrong_is_said_at_once() {
    let failed = |args: &InitArgs| {
        let host = host();
        let made = draft(args, &host, None).and_then(|mut it| prepare(&mut it, &host));
        let failure = made.expect_err("is refused");
        assert_eq!(failure.exit, Exit::Usage);
        failure.to_string()
    };
    let none = failed(&args(&[], &[], &[]));
    assert!(none.contains("--vip and --green"), "{none}");
    let odd = failed(&args(&["https"], &[], &["9444"]));
    assert!(
        odd.contains("\"https\"") && odd.contains("IP:PORT"),
        "{odd}"
    );
    let loopback = failed(&args(&["443"], &["127.0.0.1:80"], &["no:where:"]));
    assert!(
        loopback.contains("127.0.0.1") && loopback.contains("no:where:"),
        "{loopback}"
    );
    assert!(loopback.contains("nothing was written"), "{loopback}");
    let mixed = failed(&args(&["443"], &["127.0.0.2:80"], &["192.0.2.7:80"]));
    assert!(mixed.contains("127.0.0.2"), "{mixed}");
    let name = failed(&InitArgs {
        group: "two words".into(),
        ..args(&["443"], &[], &["9444"])
    });
    assert!(name.contains("two words"), "{name}");
    let nowhere = Host {
        default: None,
        address: None,
        ..host()
    };
    let failure = draft(&args(&["443"], &[], &["9444"]), &nowhere, None);
    assert!(
        failure
            .expect_err("whose port?")
            .to_string()
            .contains("--vip IP:443")
    );
}

#[test]
fn answers_complete_what_options_left_open() {
    let host = host();
    let mut said = Vec::new();
    let mut given =
        "eth9\n\n192.0.2.1:80\nshop\nhttps\n443\n\n\n9444,9445\nhealth\n/health\n".as_bytes();
    let mut questions = Questions::new(&mut given, &mut said);
    let none = args(&[], &[], &[]);
    let mut draft = draft(&none, &host, Some(&mut questions)).expect("answered");
    let ready = prepare(&mut draft, &host).expect("is valid");
    let said = String::from_utf8(said).expect("is text");
    assert!(said.contains("there is no interface \"eth9\""), "{said}");
    assert!(
        said.contains("\"192.0.2.1:80\" is not a valid name"),
        "{said}"
    );
    assert!(said.contains("\"https\" is nothing"), "{said}");
    assert!(said.contains("a path begins with /"), "{said}");
    let service = &ready.config.groups["shop"].services["web"];
    assert_eq!(service.endpoints["blue"][0].address, service.vip);
    assert_eq!(service.endpoints["green"].len(), 2);
    assert!(ready.text.contains("path = \"/health\""), "{}", ready.text);
}

#[test]
fn answers_that_end_write_nothing_and_none_are_asked_for_without_need() {
    let host = host();
    let mut said = Vec::new();
    let mut given = "eth0\n".as_bytes();
    let mut questions = Questions::new(&mut given, &mut said);
    let cut = draft(&args(&[], &[], &[]), &host, Some(&mut questions));
    assert!(cut.expect_err("too few").to_string().contains("too early"));
    let (mut given, mut said) = (&b""[..], Vec::new());
    let mut questions = Questions::new(&mut given, &mut said);
    draft(&args(&["443"], &[], &["1"]), &host, Some(&mut questions)).expect("all is said");
    assert!(said.is_empty());
}

/// XDP in a driver loses what it should send to a bridge.
#[test]
fn modes_suit_each_other() {
    let link = |name: &str, kind: Option<&str>, xdp| Link {
        name: name.into(),
        kind: kind.map(str::to_owned),
        xdp,
        why: "because".into(),
    };
    let host = Host {
        links: vec![
            link("eth0", None, XdpMode::Native),
            link("br0", Some("bridge"), XdpMode::Tc),
        ],
        ..host()
    };
    let both = InitArgs {
        interfaces: vec!["eth0".into(), "br0".into()],
        ..args(&["443"], &[], &["9444"])
    };
    let mut draft = draft(&both, &host, None).expect("is enough");
    prepare(&mut draft, &host).expect("is valid");
    assert!(
        draft.interfaces.iter().all(|it| it.xdp == XdpMode::Tc),
        "{draft:?}"
    );
    draft.interfaces.truncate(1);
    prepare(&mut draft, &host).expect("is valid");
    assert_eq!(draft.interfaces[0].xdp, XdpMode::Native);
}

fn made(args: &InitArgs) -> Ready {
    let host = host();
    let mut draft = draft(args, &host, None).expect("options are enough");
    prepare(&mut draft, &host).unwrap_or_else(|failure| panic!("{failure}"))
}

fn args(vip: &[&str], blue: &[&str], green: &[&str]) -> InitArgs {
    let owned = |list: &[&str]| list.iter().map(ToString::to_string).collect();
    InitArgs {
        vip: vip.first().map(ToString::to_string),
        blue: owned(blue),
        green: owned(green),
        group: "shop".into(),
        service: "web".into(),
        ..InitArgs::default()
    }
}

/// A host with one interface, and no address but the loopback's and its own.
fn host() -> Host {
    Host {
        name: "host".into(),
        links: vec![Link {
            name: "eth0".into(),
            kind: Some("veth".into()),
            xdp: XdpMode::Tc,
            why: "a veth".into(),
        }],
        default: Some("eth0".into()),
        address: Some([203, 0, 113, 10].into()),
        own: crate::host::OwnAddresses::of([[203, 0, 113, 10].into()]),
    }
}
