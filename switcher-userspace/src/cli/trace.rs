//! Arguments of `trace`.

use std::net::IpAddr;
use std::time::Duration;

use clap::Args;

use crate::config::Protocol;
use crate::exit::{Exit, Failure};
use crate::trace::Wanted;

/// Arguments of `trace`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Args)]
pub struct TraceArgs {
    /// What packets have to fit, all of it: GROUP, GROUP/SERVICE, an address (IP, or IP/BITS), :PORT, tcp, udp
    #[arg(value_name = "FILTER", required_unless_present = "all")]
    pub filter: Vec<String>,
    /// Every packet of every service
    #[arg(long, conflicts_with = "filter")]
    pub all: bool,
    /// Also packets that concern no service
    #[arg(long)]
    pub strangers: bool,
    /// End after this long, an hour at most
    #[arg(long = "for", value_name = "DURATION", value_parser = super::duration, default_value = "1m")]
    pub time: Duration,
    /// End after so many packets
    #[arg(short = 'n', long, value_name = "N")]
    pub count: Option<u64>,
    /// Packets that a CPU may tell of in a second; the rest is counted
    #[arg(long, value_name = "N", default_value_t = 100)]
    pub rate: u32,
}

impl TraceArgs {
    /// As the agent is asked.
    ///
    /// # Errors
    /// When a word of the filter can't be understood.
    pub fn wanted(&self) -> Result<Wanted, Failure> {
        let mut wanted = Wanted {
            strangers: self.strangers,
            rate: Some(self.rate),
            count: self.count,
            duration: Some(humantime::format_duration(self.time).to_string()),
            ..Wanted::default()
        };
        for word in &self.filter {
            take(word, &mut wanted)
                .map_err(|why| Failure::new(Exit::Usage, "trace", format!("{word:?}: {why}")))?;
        }
        Ok(wanted)
    }
}

fn take(word: &str, wanted: &mut Wanted) -> Result<(), &'static str> {
    fn set<T>(place: &mut Option<T>, value: T) -> Result<(), &'static str> {
        match place.replace(value) {
            None => Ok(()),
            Some(_) => Err("there is one of these already"),
        }
    }
    match word {
        "tcp" => return set(&mut wanted.protocol, Protocol::Tcp),
        "udp" => return set(&mut wanted.protocol, Protocol::Udp),
        _ => {}
    }
    if let Ok(address) = word.parse::<IpAddr>() {
        return set(&mut wanted.address, address);
    }
    if let Some(port) = word.strip_prefix(':') {
        let port = port.parse().map_err(|_| "not a port")?;
        return set(&mut wanted.port, port);
    }
    let Some((left, right)) = word.split_once('/') else {
        return set(&mut wanted.group, word.to_owned());
    };
    if let Ok(address) = left.parse::<IpAddr>() {
        let bits = right.parse().map_err(|_| "not a number of bits")?;
        set(&mut wanted.prefix, bits)?;
        return set(&mut wanted.address, address);
    }
    set(&mut wanted.group, left.to_owned())?;
    set(&mut wanted.service, right.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wanted(words: &[&str]) -> Result<Wanted, Failure> {
        let filter = words.iter().map(ToString::to_string).collect();
        TraceArgs {
            filter,
            ..TraceArgs::default()
        }
        .wanted()
    }

    #[test]
    fn words_say_what_they_are() {
        let all = wanted(&["shop/web", "198.51.100.0/24", ":443", "tcp"]).expect("good words");
        assert_eq!(all.group.as_deref(), Some("shop"));
        assert_eq!(all.service.as_deref(), Some("web"));
        assert_eq!(all.address, Some(IpAddr::from([198, 51, 100, 0])));
        assert_eq!((all.prefix, all.port), (Some(24), Some(443)));
        assert_eq!(all.protocol, Some(Protocol::Tcp));
        let six = wanted(&["2001:db8::1", "shop"]).expect("good words");
        assert_eq!((six.prefix, six.group.as_deref()), (None, Some("shop")));
    }

    #[test]
    fn words_that_are_nothing_are_refused() {
        for words in [
            &[":http"][..],
            &["10.0.0.1/x"],
            &["tcp", "udp"],
            &["a", "b"],
        ] {
            assert_eq!(wanted(words).expect_err("refused").exit, Exit::Usage);
        }
    }
}
