//! Command lines, and what is understood.

use clap::CommandFactory;
use clap::error::ErrorKind;

use super::*;
use crate::config::Protocol;

#[test]
fn definitions_are_consistent() {
    Cli::command().debug_assert();
}

#[test]
fn every_command_is_understood() {
    let lines = [
        "agent --config /etc/switcher.toml",
        "init",
        "init - --interface eth0 --interface eth1 --xdp tc --group shop --service web --vip 443 --blue 8443 --green 9444",
        "init a.toml --force --vip [::1]:53/udp --green 10.0.0.2 --forward dsr --health /healthz --listen [::]:9464 --preview 9443",
        "check switcher.toml",
        "plan",
        "plan switcher.toml",
        "apply --reason maintenance --if-revision 3",
        "apply switcher.toml --dry-run",
        "status",
        "status shop -w",
        "flip shop",
        "flip shop green --reason v42 --dry-run --if-live blue --idempotency-key ci-7 --force",
        "flip shop --wait drained --timeout 5m",
        "rollback shop --hard --wait settled",
        "flip shop --at +5s --confirm-within 5m --wait scheduled",
        "flip shop --no-confirm",
        "confirm shop --reason good",
        "extend shop 10m",
        "pause shop --for 5s",
        "resume shop",
        "abort shop",
        "stage shop --version v43",
        "stage shop blue --version v43 --schema 12..14 --reason nightly",
        "schema shop --applied 15 --close-rollback",
        "freeze shop --reason audit --for 2h",
        "unfreeze shop",
        "gate shop",
        "gate shop qa open --reason tested",
        "wait shop --for healthy=green --timeout 30s",
        "history",
        "drift",
        "audit --group shop -n 5",
        "audit verify --state-dir /var/lib/switcher",
        "history shop -n 5",
        "show 17",
        "explain shop tcp 198.51.100.7:40000 203.0.113.10:443 --syn",
        "doctor --config switcher.toml",
        "emergency shop blue --bpffs /sys/fs/bpf/other",
        "detach --force --bpffs /sys/fs/bpf/other",
        "drill shop green --for 10s",
        "canary shop green --policy",
        "completion zsh",
        "top",
        "top --interval 500ms --snapshot --width 120 --height 40",
    ];
    for line in lines {
        parse(line).unwrap_or_else(|error| panic!("{line}: {error}"));
    }
}

#[test]
fn usage_errors_exit_2_and_help_exits_0() {
    let exit = |line: &str| parse(line).expect_err(line).exit_code();
    for line in [
        "",
        "flop",
        "flip",
        "flip shop --if-revision x",
        "gate shop qa",
        "gate shop qa ajar",
        "wait shop",
        "-o xml status",
        "top --interval 1ms",
        "top --width 80",
    ] {
        assert_eq!(exit(line), 2, "{line}");
    }
    for line in ["--help", "flip --help", "--version"] {
        assert_eq!(exit(line), 0, "{line}");
    }
}

#[test]
fn a_change_has_at_most_one_precondition() {
    let error = parse("flip shop --if-revision 3 --if-live blue").expect_err("two of them");
    assert_eq!(error.kind(), ErrorKind::ArgumentConflict);
}

#[test]
fn global_options_go_anywhere() {
    let globals = |line: &str| parse(line).expect(line).globals;
    assert_eq!(globals("status").format(), Format::Table);
    assert_eq!(globals("status --json").format(), Format::Json);
    assert_eq!(globals("-o yaml status").format(), Format::Yaml);
    assert_eq!(
        globals("status --socket /tmp/s").socket,
        PathBuf::from("/tmp/s")
    );
    assert!(globals("status -q").quiet && globals("--no-color status").no_color);
}

#[test]
fn explain_names_a_group_or_all() {
    let packet = MadeUpPacket {
        protocol: Protocol::Tcp,
        source: "198.51.100.7:40000".parse().expect("an address"),
        destination: "203.0.113.10:443".parse().expect("an address"),
        syn: true,
    };
    let words = "tcp 198.51.100.7:40000 203.0.113.10:443 --syn";
    let one = ExplainArgs {
        group: Some("shop".into()),
        packet,
        bpffs: None,
    };
    assert_eq!(explain(&format!("explain shop {words}")), Ok(one));
    let all = ExplainArgs {
        group: None,
        packet,
        bpffs: None,
    };
    assert_eq!(explain(&format!("explain --all {words}")), Ok(all));
}

#[test]
fn explain_says_what_it_misses() {
    let cases = [
        ("explain tcp 1.2.3.4:5 6.7.8.9:80", "name a group, or --all"),
        (
            "explain --all shop tcp 1.2.3.4:5 6.7.8.9:80",
            "either a group or --all",
        ),
        (
            "explain shop sctp 1.2.3.4:5 6.7.8.9:80",
            "\"sctp\" is unknown: choose tcp or udp",
        ),
        (
            "explain shop tcp 1.2.3.4 6.7.8.9:80",
            "\"1.2.3.4\" is not IP:PORT",
        ),
    ];
    for (line, message) in cases {
        let error = explain(line).expect_err(line);
        assert!(error.contains(message), "{line}: {error}");
        assert!(error.contains("<GROUP|--all> <PROTO>"), "{line}: {error}");
    }
}

fn explain(line: &str) -> Result<ExplainArgs, String> {
    match parse(line).map_err(|error| error.to_string())?.command {
        Command::Explain(args) => Ok(args),
        other => panic!("{line}: {other:?}"),
    }
}

fn parse(line: &str) -> Result<Cli, clap::Error> {
    Cli::try_parse_from(std::iter::once("switcher").chain(line.split_whitespace()))
}

#[test]
fn the_help_lists_every_exit_code() {
    let help = <Cli as CommandFactory>::command()
        .render_long_help()
        .to_string();
    assert!(help.contains("\n   0  done"), "{help}");
    assert!(help.contains("\n  13  not permitted"), "{help}");
}
