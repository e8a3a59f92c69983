//! Servers of this namespace and a client in another.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpListener;
use std::path::PathBuf;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::Duration;

use crate::lab::ip;

/// Answers connections with a name, and echoes what follows. Ends with the process.
pub(crate) fn serve(port: u16, name: &'static str) {
    let listener = TcpListener::bind(("10.0.0.1", port)).expect("the port is free");
    std::thread::spawn(move || {
        for connection in listener.incoming().map_while(Result::ok) {
            std::thread::spawn(move || {
                let mut to = connection.try_clone().expect("a descriptor");
                writeln!(to, "{name}").expect("the client reads");
                std::io::copy(&mut &connection, &mut to)
            });
        }
    });
}

/// Another network namespace at the end of the wire.
pub(crate) struct Client(Child);

impl Client {
    pub(crate) fn beyond_the_wire() -> Self {
        let sleeper = Command::new("unshare").args(["-n", "sleep", "60"]).spawn();
        let client = Self(sleeper.expect("unshare is there"));
        let pid = client.0.id().to_string();
        // The namespace is there once the device can be moved and is gone from here.
        let own = std::fs::read_link("/proc/thread-self/ns/net").expect("a namespace");
        let other = PathBuf::from(format!("/proc/{pid}/ns/net"));
        let init = std::fs::read_link("/proc/self/ns/net").expect("a namespace");
        while std::fs::read_link(&other).is_ok_and(|ns| ns == own || ns == init) {
            std::thread::sleep(Duration::from_millis(5));
        }
        ip(&["link", "set", "sw1", "netns", &pid]);
        client.run("ip addr add 10.0.0.2/24 dev sw1 && ip link set sw1 up");
        client
    }

    pub(crate) fn command(&self, script: &str) -> Command {
        let mut command = Command::new("nsenter");
        let pid = self.0.id().to_string();
        command.args(["-t", &pid, "-n", "timeout", "5", "bash", "-c", script]);
        command
    }

    pub(crate) fn run(&self, script: &str) -> String {
        let output = self.command(script).output().expect("nsenter is there");
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// Who answers at a port of the VIP; nobody is nothing.
    pub(crate) fn asks(&self, port: u16) -> String {
        let script = format!("exec 3<>/dev/tcp/10.0.0.1/{port} && read -r name <&3 && echo $name");
        self.run(&script).trim().to_owned()
    }

    /// A connection that is held until it says one thing more.
    pub(crate) fn stays(&self, port: u16) -> Conversation {
        let script = format!(
            "exec 3<>/dev/tcp/10.0.0.1/{port}; read -r name <&3; echo $name; \
             read -r more; echo $more >&3; read -r back <&3; echo $back"
        );
        let mut command = self.command(&script);
        let pipes = command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = pipes.spawn().expect("nsenter is there");
        let mut said = BufReader::new(child.stdout.take().expect("a pipe"));
        let mut name = String::new();
        said.read_line(&mut name).expect("a line");
        Conversation { child, said, name }
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        let _gone = self.0.kill();
        let _reaped = self.0.wait();
    }
}

pub(crate) struct Conversation {
    child: Child,
    said: BufReader<ChildStdout>,
    name: String,
}

impl Conversation {
    /// Says the last word; returns everything that came back.
    pub(crate) fn ends_with(mut self, word: &str) -> String {
        let mut stdin = self.child.stdin.take().expect("a pipe");
        writeln!(stdin, "{word}").expect("it reads");
        self.said.read_to_string(&mut self.name).expect("an answer");
        self.child.wait().expect("it ends");
        self.name
    }
}
