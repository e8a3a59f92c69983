//! Arguments of `explain`: an optional first word, which clap can't derive.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::error::{Error, ErrorKind};
use clap::{ArgMatches, Args, Command, FromArgMatches};

use crate::config::Protocol;

/// Arguments of `explain`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExplainArgs {
    /// The group asked about; none for all.
    pub group: Option<String>,
    /// The packet asked about.
    pub packet: MadeUpPacket,
    /// Where the maps are pinned; the agent is asked otherwise.
    pub bpffs: Option<PathBuf>,
}

/// A packet that nobody sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MadeUpPacket {
    /// Its protocol.
    pub protocol: Protocol,
    /// The client's side.
    pub source: SocketAddr,
    /// The service's side.
    pub destination: SocketAddr,
    /// Whether it opens a connection: a SYN, or an Initial of QUIC.
    pub syn: bool,
}

impl MadeUpPacket {
    /// With IPv4 addresses as such, also where they were given in IPv6.
    #[must_use]
    pub fn canonical(&self) -> Self {
        let end = |end: SocketAddr| SocketAddr::new(end.ip().to_canonical(), end.port());
        Self {
            source: end(self.source),
            destination: end(self.destination),
            ..*self
        }
    }
}

const USAGE: &str = "switcher explain <GROUP|--all> <PROTO> <SRC:PORT> <DST:PORT> [--syn]";

#[derive(Args)]
#[command(override_usage = USAGE)]
struct Words {
    /// The group, tcp or udp, the client's and the service's IP:PORT
    #[arg(num_args = 3..=4, required = true, value_names = ["GROUP|--all", "PROTO", "SRC:PORT", "DST:PORT"])]
    words: Vec<String>,
    /// Ask of every group, instead of naming one
    #[arg(long)]
    all: bool,
    /// The packet opens a connection: a SYN, or an Initial of QUIC
    #[arg(long)]
    syn: bool,
    /// Where programs and maps are pinned [default: as the agent's configuration says]
    #[arg(long, value_name = "DIR", env = "SWITCHER_BPFFS")]
    bpffs: Option<PathBuf>,
}

impl Words {
    fn understand(self) -> Result<ExplainArgs, String> {
        let Self {
            words,
            all,
            syn,
            bpffs,
        } = self;
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let (group, [protocol, source, destination]) = match (all, words.as_slice()) {
            (true, [protocol, source, destination]) => (None, [protocol, source, destination]),
            (false, [group, protocol, source, destination]) => {
                (Some((*group).to_owned()), [protocol, source, destination])
            }
            (true, _) => return Err("name either a group or --all".to_owned()),
            (false, _) => return Err("name a group, or --all".to_owned()),
        };
        let protocol = match *protocol {
            "tcp" => Protocol::Tcp,
            "udp" => Protocol::Udp,
            other => return Err(format!("protocol {other:?} is unknown: choose tcp or udp")),
        };
        let packet = MadeUpPacket {
            protocol,
            source: address(source)?,
            destination: address(destination)?,
            syn,
        };
        Ok(ExplainArgs {
            group,
            packet,
            bpffs,
        })
    }
}

fn address(text: &str) -> Result<SocketAddr, String> {
    text.parse()
        .map_err(|_| format!("{text:?} is not IP:PORT, such as 198.51.100.7:40000"))
}

impl Args for ExplainArgs {
    fn augment_args(command: Command) -> Command {
        Words::augment_args(command)
    }

    fn augment_args_for_update(command: Command) -> Command {
        Words::augment_args_for_update(command)
    }
}

impl FromArgMatches for ExplainArgs {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, Error> {
        let usage = || Words::augment_args(Command::new("explain"));
        Words::from_arg_matches(matches)?
            .understand()
            .map_err(|why| usage().error(ErrorKind::ValueValidation, why))
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}
