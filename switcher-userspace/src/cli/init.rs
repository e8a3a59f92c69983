//! Arguments of `init`.

use std::path::PathBuf;

use clap::Args;

use crate::config::DEFAULT_CONFIG;

/// Arguments of `init`.
#[derive(Clone, Debug, Default, Args)]
pub struct InitArgs {
    /// Where to write it; `-` prints it
    #[arg(default_value = DEFAULT_CONFIG)]
    pub file: PathBuf,
    /// Replace a file that is there
    #[arg(long)]
    pub force: bool,
    /// An interface that clients come in by; repeat it for more [default: the one with the default route]
    #[arg(long = "interface", value_name = "NAME")]
    pub interfaces: Vec<String>,
    /// Where packets are met: native, generic or tc [default: what suits each interface]
    #[arg(long, value_name = "MODE", value_parser = ["native", "generic", "tc"])]
    pub xdp: Option<String>,
    /// What to call the group
    #[arg(long, value_name = "NAME", default_value = "shop")]
    pub group: String,
    /// What to call the service
    #[arg(long, value_name = "NAME", default_value = "web")]
    pub service: String,
    /// What clients connect to: IP:PORT, PORT of this host, either with /udp
    #[arg(long, value_name = "ADDRESS")]
    pub vip: Option<String>,
    /// A server of the colour that is live first: IP:PORT, or PORT at the VIP's address; repeat it for more
    /// [default: whoever serves the VIP now]
    #[arg(long, value_name = "ADDRESS")]
    pub blue: Vec<String>,
    /// A server of the other colour, likewise
    #[arg(long, value_name = "ADDRESS")]
    pub green: Vec<String>,
    /// An address that always reaches the idle colour, likewise
    #[arg(long, value_name = "ADDRESS")]
    pub preview: Option<String>,
    /// How packets get to servers [default: local for addresses of this host, else masquerade]
    #[arg(long, value_name = "MODE", value_parser = ["local", "routed", "masquerade", "dsr", "ipip"])]
    pub forward: Option<String>,
    /// Check servers by an HTTP GET of this path [default: that they accept connections]
    #[arg(long, value_name = "PATH")]
    pub health: Option<String>,
    /// Serve metrics and health here, to read only
    #[arg(long, value_name = "IP:PORT")]
    pub listen: Option<String>,
}
