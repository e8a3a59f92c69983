//! Tells bpf-linker how to generate code.

fn main() {
    // Packet headers are not aligned and the JITs of our architectures do not mind; without this each
    // field is read byte by byte.
    println!("cargo:rustc-link-arg-bins=--cpu-features=+alu32,+allows-misaligned-mem-access");
}
