fn main() {
    println!("recon {}", env!("CARGO_PKG_VERSION"));
}
