//! Before the crate: that migrations are part of it, and whether its tests find a PostgreSQL, a Qdrant server, an strace, a faketime and the right to
//! mount.

#[path = "tests/support/faketime.rs"]
mod faketime;
#[path = "tests/support/installed.rs"]
mod installed;

use std::{env::var_os, process::Command};

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed=migrations"); // they are read at compile time, which the compiler does not notice
    println!("cargo::rerun-if-changed=tests/support/faketime.rs");
    println!("cargo::rerun-if-changed=tests/support/installed.rs");
    println!("cargo::rerun-if-env-changed=INKLING_TEST_POSTGRES");
    println!("cargo::rerun-if-env-changed=INKLING_TEST_POSTGRES_URL");
    // Without it the tests that need a server are listed as ignored, with the reason.
    println!("cargo::rustc-check-cfg=cfg(postgres_server)");
    let there = match var_os("INKLING_TEST_POSTGRES").and_then(|wish| wish.into_string().ok()).as_deref() {
        Some("skip") => false,
        Some("required") => true,
        _ => var_os("INKLING_TEST_POSTGRES_URL").is_some() || installed::programs().is_some(),
    };
    if there {
        println!("cargo::rustc-cfg=postgres_server");
    }
    // Some stop the server, read its files or fill its disk: a server elsewhere will not do.
    println!("cargo::rustc-check-cfg=cfg(postgres_programs)");
    if there && (installed::programs().is_some() || var_os("INKLING_TEST_POSTGRES_URL").is_none()) {
        println!("cargo::rustc-cfg=postgres_programs");
    }
    println!("cargo::rerun-if-env-changed=INKLING_TEST_QDRANT_URL");
    println!("cargo::rustc-check-cfg=cfg(qdrant_server)");
    if var_os("INKLING_TEST_QDRANT_URL").is_some() {
        println!("cargo::rustc-cfg=qdrant_server");
    }
    println!("cargo::rerun-if-env-changed=INKLING_TEST_STRACE");
    println!("cargo::rustc-check-cfg=cfg(strace)");
    let traces = || Command::new("strace").args(["-qq", "-o", "/dev/null", "true"]).status().is_ok_and(|status| status.success());
    if var_os("INKLING_TEST_STRACE").is_some_and(|wish| wish == "required") || traces() {
        println!("cargo::rustc-cfg=strace");
    }
    println!("cargo::rerun-if-env-changed=INKLING_TEST_FAKETIME");
    println!("cargo::rustc-check-cfg=cfg(faketime)");
    if var_os("INKLING_TEST_FAKETIME").is_some_and(|wish| wish == "required") || faketime::library().is_some() {
        println!("cargo::rustc-cfg=faketime");
    }
    println!("cargo::rustc-check-cfg=cfg(mounts)");
    // In a mount namespace of its own, which takes the same right and leaves nothing behind.
    let folder = var_os("OUT_DIR").unwrap_or_default();
    let mounts = || Command::new("unshare").args(["--mount", "mount", "-t", "tmpfs", "none"]).arg(&folder).output().is_ok_and(|tried| tried.status.success());
    if mounts() {
        println!("cargo::rustc-cfg=mounts");
    }
    if let Some(programs) = installed::programs() {
        println!("cargo::rerun-if-changed={}", programs.join("initdb").display());
    }
}
