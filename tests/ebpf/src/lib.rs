//! What the bench and its programs agree on. The programs are the `baseline` binary of this package.
#![no_std]

/// What `drive` does to every frame before it hands it on.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct Plan {
    /// Frames so far.
    pub next: u32,
    /// Flows minus one; a power of two minus one.
    pub mask: u32,
    /// Which element of `TARGETS` gets the frame.
    pub target: u32,
    /// 1 if every frame has its own sequence number.
    pub sequences: u32,
    /// Client address of the first flow, in network order.
    pub client: u32,
    /// Where the frame goes, in network order.
    pub destination: u32,
    /// Services minus one that flows go to, by address; a power of two minus one.
    pub addresses: u32,
    /// The same, by port.
    pub ports: u32,
    /// Where `across` sends the frame.
    pub interface: u32,
    /// Client port of the first flow, in network order.
    pub client_port: u16,
    /// Where the frame goes, in network order.
    pub destination_port: u16,
    /// How many lines `touch` chooses each of its reads from: a power of two, 0 for no more reads.
    pub touches: [u32; TOUCHES as usize],
}

/// The most lines that `touch` reads for a frame.
pub const TOUCHES: u32 = 12;
/// The most lines that it may choose from: an array of 256 MiB.
pub const LINES: u32 = 1 << 22;

/// Flows that `look_up` has room for.
pub const FLOWS: u32 = 1 << 21;

/// A flow as `look_up` knows it, as large as Switcher's `FlowKey`.
#[repr(C, align(8))]
#[derive(Clone, Copy, Debug, Default)]
pub struct Flow {
    /// The client's address, in network order.
    pub client: [u32; 4],
    /// Its port, in network order.
    pub port: u16,
    /// Zero, as all that follows.
    pub id: u16,
    /// See `id`.
    pub space: u32,
}

/// What `minimal` looks for: 192.0.2.80:80.
pub const SERVICE: ([u8; 4], u16) = ([192, 0, 2, 80], 80);
/// What it puts in its place: 192.0.2.80:8001.
pub const ENDPOINT: ([u8; 4], u16) = ([192, 0, 2, 80], 8001);

/// Whom `kill_at` ends, and when.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct Victim {
    /// Of the file of its PID namespace.
    pub device: u64,
    /// Of the file of its PID namespace.
    pub inode: u64,
    /// Its number there; 0 for nobody.
    pub process: u32,
    /// At which of its calls it ends, counted from 1; 0 for never.
    pub at: u32,
    /// Calls so far.
    pub count: u32,
    /// Numbers of the system calls that count.
    pub calls: [u32; 3],
}
