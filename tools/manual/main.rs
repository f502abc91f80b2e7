//! `make man`: manual pages and shell completions of `recon`, made from its own arguments, into the folder that is named.
//! A program beside the binary, so that nothing of it is in the image.

mod pages;

fn main() -> std::io::Result<()> {
    let folder = std::env::args_os()
        .nth(1)
        .ok_or_else(|| std::io::Error::other("the folder to write into is missing"))?;
    pages::write(folder.as_ref())
}
