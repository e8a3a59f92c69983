//! Builds the kernel object from source; `datapath` embeds it.

fn main() -> anyhow::Result<()> {
    switcher_toolchain::build(switcher_toolchain::Package {
        name: "switcher-ebpf",
        root_dir: "../switcher-ebpf",
        ..Default::default()
    })
}
