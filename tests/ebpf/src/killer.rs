//! Ends a process in the middle of its work: at a given one of its system calls.
#![no_std]
#![no_main]

use aya_ebpf::bindings::bpf_pidns_info;
use aya_ebpf::helpers::generated::{bpf_get_ns_current_pid_tgid, bpf_send_signal};
use aya_ebpf::macros::{map, raw_tracepoint};
use aya_ebpf::maps::Array;
use aya_ebpf::programs::RawTracePointContext;
use switcher_tests_ebpf::Victim;

const SIGKILL: u32 = 9;

#[map]
static VICTIM: Array<Victim> = Array::with_max_entries(1, 0);

/// The call is still carried out: the process ends where it would have gone on.
#[raw_tracepoint(tracepoint = "sys_enter")]
fn kill_at(context: RawTracePointContext) -> i32 {
    let Some(victim) = VICTIM.get_ptr_mut(0) else {
        return 0;
    };
    // SAFETY: an element of an array stays where it is.
    let victim = unsafe { &mut *victim };
    let number = context.arg::<u64>(1) as u32;
    if victim.process == 0 || !victim.calls.contains(&number) || !is_it(victim) {
        return 0;
    }
    victim.count += 1;
    if victim.count == victim.at {
        // SAFETY: takes a number.
        unsafe { bpf_send_signal(SIGKILL) };
    }
    0
}

/// Whether the current process is the victim, by the numbers of its namespace.
fn is_it(victim: &Victim) -> bool {
    let mut current = bpf_pidns_info { pid: 0, tgid: 0 };
    let size = size_of::<bpf_pidns_info>() as u32;
    // SAFETY: the structure is as large as said.
    let done =
        unsafe { bpf_get_ns_current_pid_tgid(victim.device, victim.inode, &raw mut current, size) };
    done == 0 && current.tgid == victim.process
}

#[cfg(not(test))]
#[panic_handler]
fn panic(_info: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}

#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";
