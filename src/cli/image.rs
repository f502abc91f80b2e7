//! `recon image`: root file systems as images.

use std::path::Path;

use anyhow::{Context, bail};

use super::args::{ImageCommand, ImagePackArgs};
use super::output::print;
use crate::image::make::{self, Wishes};
use crate::image::manifest::Manifest;
use crate::image::{KERNEL, ROOT, check};
use crate::model::shown::Shown;
use crate::probe::text::decimal_size;
use crate::sys::tree::Tree;

pub(super) fn run(command: ImageCommand) -> anyhow::Result<()> {
    let manifest = match command {
        ImageCommand::Pack(args) => make::make(&wishes(args))?,
        ImageCommand::Check(args) => check::read(&args.image, None)?,
        ImageCommand::Unpack(args) => unpack(&args.image, &args.root)?,
    };
    print(&shown(&manifest))
}

fn wishes(args: ImagePackArgs) -> Wishes {
    Wishes {
        root: args.root,
        output: args.output,
        kernel: args.kernel,
        level: args.level,
        newest: args.newest.unwrap_or(u64::MAX),
    }
}

fn unpack(image: &Path, root: &Path) -> anyhow::Result<Manifest> {
    let named = || format!("{}", root.display());
    std::fs::create_dir_all(root).with_context(named)?;
    if std::fs::read_dir(root).with_context(named)?.next().is_some() {
        bail!("{}: the folder is not empty", root.display());
    }
    let tree = Tree::open(root).with_context(named)?;
    Ok(check::read(image, Some(&tree))?)
}

fn shown(manifest: &Manifest) -> Shown {
    let root = &manifest.root;
    Shown::lines(&format!(
        "{ROOT}  {}, unpacked {} in {} entries\n{KERNEL}        {}, {} for {}\nversion       {}\n",
        decimal_size(root.packed.bytes),
        decimal_size(root.unpacked_bytes),
        root.entries,
        decimal_size(manifest.kernel.bytes),
        manifest.kernel_version,
        manifest.arch,
        manifest.version()
    ))
}
