//! Empty on purpose: the kernel programs are the `switcher` binary of this package. The library exists
//! so that `switcher-userspace` can have a build dependency on it and be rebuilt when it changes.
#![no_std]
