//! Before the crate: that migrations are part of it, and whether its tests find a PostgreSQL and an strace.

#[path = "tests/support/installed.rs"]
mod installed;

use std::{env::var_os, process::Command};

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed=migrations"); // they are read at compile time, which the compiler does not notice
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
    println!("cargo::rerun-if-env-changed=INKLING_TEST_STRACE");
    println!("cargo::rustc-check-cfg=cfg(strace)");
    let traces = || Command::new("strace").args(["-qq", "-o", "/dev/null", "true"]).status().is_ok_and(|status| status.success());
    if var_os("INKLING_TEST_STRACE").is_some_and(|wish| wish == "required") || traces() {
        println!("cargo::rustc-cfg=strace");
    }
    if let Some(programs) = installed::programs() {
        println!("cargo::rerun-if-changed={}", programs.join("initdb").display());
    }
}
