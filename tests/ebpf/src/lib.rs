//! Empty on purpose, as in `switcher-ebpf`: a handle for build dependencies.
#![no_std]
