//! Questions to whoever sits at the terminal.

use std::io::{self, BufRead, Write};

use super::draft::{near, vip_of};
use super::host::Host;
use super::refused;
use crate::cli::InitArgs;
use crate::config::name;
use crate::exit::Failure;

/// Asks, and reads answers line by line.
pub struct Questions<'a> {
    from: &'a mut dyn BufRead,
    to: &'a mut dyn Write,
}

impl<'a> Questions<'a> {
    /// Between these two.
    pub fn new(from: &'a mut dyn BufRead, to: &'a mut dyn Write) -> Self {
        Self { from, to }
    }

    /// Asks for what options don't say; nothing if they say enough.
    pub(super) fn complete(&mut self, args: &mut InitArgs, host: &Host) -> Result<(), Failure> {
        if args.vip.is_some() && !args.green.is_empty() {
            return Ok(());
        }
        self.say("A configuration for this host. Enter takes what is in brackets; Ctrl-C writes nothing.\n")?;
        if args.interfaces.is_empty() {
            let names: Vec<_> = host.links.iter().map(|it| it.name.as_str()).collect();
            let question = format!(
                "Which interface do clients come in by ({})?",
                names.join(", ")
            );
            let name = self.until(&question, host.default.as_deref(), |name| {
                match host.link(name) {
                    Some(_) => Ok(name.to_owned()),
                    None => Err(format!("there is no interface {name:?}")),
                }
            })?;
            args.interfaces.push(name);
        }
        let question = "What are its services called together, in commands such as `flip`?";
        let group = self.until(question, Some(&args.group), named)?;
        args.group = group;
        let vip = match &args.vip {
            Some(vip) => vip_of(vip, host.address)?.0,
            None => {
                let question = "What do clients connect to (IP:PORT, or a PORT of this host)?";
                let vip = self.until(question, None, |text| {
                    vip_of(text, host.address)
                        .map(|_| text.to_owned())
                        .map_err(|it| it.why)
                })?;
                let (at, _) = vip_of(&vip, host.address)?;
                args.vip = Some(vip);
                at
            }
        };
        if args.blue.is_empty() {
            let question = "Where does the present release listen (blue)?";
            let here = vip.to_string();
            args.blue = words(&self.until(question, Some(&here), |it| servers(it, vip))?);
        }
        if args.green.is_empty() {
            let question = "Where will the next one listen (green)?";
            args.green = words(&self.until(question, None, |it| servers(it, vip))?);
        }
        let udp = args.vip.as_deref().is_some_and(|it| it.ends_with("/udp"));
        if args.health.is_none() && !udp {
            let question = "Which path says by HTTP that a server is well (- for none: it is if it takes connections)?";
            let path = self.until(question, Some("-"), |it| match it {
                "-" => Ok(String::new()),
                path if path.starts_with('/') => Ok(path.to_owned()),
                _ => Err("a path begins with /".to_owned()),
            })?;
            args.health = Some(path).filter(|it| !it.is_empty());
        }
        Ok(())
    }

    /// Asks until the answer will do.
    fn until(
        &mut self,
        question: &str,
        default: Option<&str>,
        mut take: impl FnMut(&str) -> Result<String, String>,
    ) -> Result<String, Failure> {
        loop {
            let offered = default.map(|it| format!(" [{it}]")).unwrap_or_default();
            self.say(&format!("{question}{offered} "))?;
            let mut line = String::new();
            let read = self.from.read_line(&mut line).map_err(|it| odd(&it))?;
            if read == 0 {
                self.say("\n")?;
                return Err(refused("the answers ended too early"));
            }
            let answer = match (line.trim(), default) {
                ("", Some(default)) => default,
                ("", None) => continue,
                (answer, _) => answer,
            };
            match take(answer) {
                Ok(answer) => return Ok(answer),
                Err(why) => self.say(&format!("  {why}\n"))?,
            }
        }
    }

    fn say(&mut self, text: &str) -> Result<(), Failure> {
        let said = self.to.write_all(text.as_bytes());
        said.and_then(|()| self.to.flush()).map_err(|it| odd(&it))
    }
}

fn odd(error: &io::Error) -> Failure {
    refused(format!("the terminal: {error}"))
}

fn named(text: &str) -> Result<String, String> {
    name(text).map_err(|it| format!("{}: {}", it.message, it.advice))
}

/// Several are separated by commas or blanks.
fn words(text: &str) -> Vec<String> {
    let words = text.split([',', ' ']).filter(|it| !it.is_empty());
    words.map(str::to_owned).collect()
}

fn servers(text: &str, vip: std::net::SocketAddr) -> Result<String, String> {
    let wrong = |it: &String| near(it, vip).parse::<std::net::SocketAddr>().is_err();
    match words(text).iter().find(|it| wrong(it)) {
        None => Ok(text.to_owned()),
        Some(it) => Err(format!(
            "{it:?} is no server: write IP:PORT, or a PORT at {}; several with commas",
            vip.ip()
        )),
    }
}
