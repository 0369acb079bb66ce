//! Passes on where lb-userspace's build script left the object that `lbt-bench` times with.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    let object =
        std::env::var("DEP_LB_EBPF_BENCH").expect("lb-userspace says it to its dependents");
    println!("cargo::rustc-env=LB_BENCH_OBJECT={object}");
    println!("cargo::rerun-if-changed={object}");
}
