//! What the verifier says of its own work. It says so in its log, which aya keeps only of programs that are refused:
//! here each program is given to the kernel once more, with a log.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::ffi::CStr;
use std::io;
use std::os::fd::{AsFd as _, AsRawFd as _, FromRawFd as _, OwnedFd, RawFd};

use anyhow::{Context as _, bail};
use aya::Ebpf;
use aya::maps::{Map, MapData};
use aya_obj::generated::bpf_attach_type;
use aya_obj::generated::bpf_prog_type::{
    BPF_PROG_TYPE_CGROUP_SOCK_ADDR, BPF_PROG_TYPE_SCHED_CLS, BPF_PROG_TYPE_XDP,
};
use aya_obj::{Function, Object, Program, ProgramSection};

/// `BPF_PROG_LOAD`.
const LOAD: libc::c_long = 5;
/// `BPF_LOG_STATS`: the closing lines alone.
const STATISTICS: u32 = 4;

/// States that the verifier has kept to recognise what it has seen before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct States {
    /// All that it has made.
    pub(crate) total: u32,
    /// The most at one time.
    pub(crate) peak: u32,
}

/// Of each program in `object`, by name; its maps are those of `loaded`.
pub(crate) fn states(object: &[u8], loaded: &Ebpf) -> anyhow::Result<BTreeMap<String, States>> {
    let mut object = Object::parse(object)?;
    let fds = loaded.maps().map(|(name, map)| Ok((name, fd(name, map)?)));
    let fds = fds.collect::<anyhow::Result<HashMap<_, _>>>()?;
    let text: HashSet<usize> = object
        .functions
        .keys()
        .map(|(section, _)| *section)
        .collect();
    let maps = object.maps.clone();
    let maps = maps
        .iter()
        .filter_map(|(name, map)| Some((name.as_str(), *fds.get(name.as_str())?, map)));
    object.relocate_maps(maps, &text)?;
    object.relocate_calls(&text)?;
    object.sanitize_functions(aya::features());
    let all = object.programs.iter().map(|(name, program)| {
        let function = object.functions.get(&program.function_key());
        let function = function.context("it has no instructions")?;
        Ok((name.clone(), verify(program, function)?))
    });
    all.collect()
}

fn verify(program: &Program, function: &Function) -> anyhow::Result<States> {
    let (kind, attach, flags) = match program.section {
        ProgramSection::Xdp { frags, .. } => (
            BPF_PROG_TYPE_XDP,
            bpf_attach_type::BPF_XDP as u32,
            u32::from(frags) << 5,
        ),
        ProgramSection::SchedClassifier => (BPF_PROG_TYPE_SCHED_CLS, 0, 0),
        ProgramSection::CgroupSockAddr { attach_type } => {
            let attach = bpf_attach_type::from(attach_type);
            (BPF_PROG_TYPE_CGROUP_SOCK_ADDR, attach as u32, 0)
        }
        ref other => bail!("nobody taught `inspect` about {other:?}"),
    };
    let mut log = vec![0u8; 1 << 16];
    // union bpf_attr, as far as it is needed.
    #[repr(C)]
    struct Attributes {
        kind: u32,
        instructions: u32,
        first: u64,
        license: u64,
        log_level: u32,
        log_size: u32,
        log: u64,
        kernel: u32,
        flags: u32,
        name: [u8; 16],
        interface: u32,
        attach: u32,
    }
    let mut attributes = Attributes {
        kind: kind as u32,
        instructions: function.instructions.len() as u32,
        first: function.instructions.as_ptr() as u64,
        license: program.license.as_ptr() as u64,
        log_level: STATISTICS,
        log_size: log.len() as u32,
        log: log.as_mut_ptr() as u64,
        kernel: 0,
        flags,
        name: [0; 16],
        interface: 0,
        attach,
    };
    let size = size_of::<Attributes>();
    // SAFETY: the pointers are to as many instructions and bytes as is said, and to a string; all outlive the call.
    let fd = unsafe { libc::syscall(libc::SYS_bpf, LOAD, &raw mut attributes, size) };
    let refused = (fd < 0).then(io::Error::last_os_error);
    let log = CStr::from_bytes_until_nul(&log)?.to_string_lossy();
    if let Some(error) = refused {
        bail!("{error}: {log}");
    }
    // SAFETY: a descriptor that the kernel has just given to us.
    drop(unsafe { OwnedFd::from_raw_fd(fd as RawFd) });
    States::in_log(&log).with_context(|| format!("no statistics in {log:?}"))
}

impl States {
    fn in_log(log: &str) -> Option<Self> {
        let words: Vec<&str> = log.split_whitespace().collect();
        let after = |name: &str| {
            let at = words.iter().position(|it| *it == name)?;
            words.get(at + 1)?.parse().ok()
        };
        let (total, peak) = (after("total_states")?, after("peak_states")?);
        Some(Self { total, peak })
    }
}

fn fd(name: &str, map: &Map) -> anyhow::Result<RawFd> {
    let fd = |data: &MapData| data.fd().as_fd().as_raw_fd();
    Ok(match map {
        Map::Array(data)
        | Map::ArrayOfMaps(data)
        | Map::HashMap(data)
        | Map::LruHashMap(data)
        | Map::PerCpuArray(data)
        | Map::PerCpuHashMap(data)
        | Map::ProgramArray(data)
        | Map::RingBuf(data)
        | Map::SkStorage(data) => fd(data),
        other => bail!("nobody taught `inspect` about {name}: {other:?}"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statistics_are_found_in_a_log() {
        let log = "verification time 812 usec\nstack depth 256+0\nprocessed 15546 insns (limit 1000000) \
                   max_states_per_insn 14 total_states 812 peak_states 700 mark_read 30\n";
        let expected = States {
            total: 812,
            peak: 700,
        };
        assert_eq!(States::in_log(log), Some(expected));
        assert_eq!(States::in_log("processed 3 insns"), None);
    }
}
