//! Builds the programs that the bench compares with.

fn main() -> anyhow::Result<()> {
    switcher_toolchain::build(switcher_toolchain::Package {
        name: "switcher-tests-ebpf",
        root_dir: "ebpf",
        ..Default::default()
    })
}
