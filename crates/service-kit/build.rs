//! The problem pages are compiled in; a new page is a reason to compile again.

fn main() {
    println!("cargo::rerun-if-changed=../../docs/problems");
}
