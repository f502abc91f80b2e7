//! `recon image`: root file systems as images.

use std::path::{Path, PathBuf};

use anyhow::{Context, Error, bail};

use super::args::{ImageAddArgs, ImageCommand, ImagePackArgs};
use super::output::print;
use crate::formats::image::{FIRST_STAGE, KERNEL, MANIFEST, Manifest, ROOT};
use crate::image::check;
use crate::image::make::{self, Wishes};
use crate::model::shown::Shown;
use crate::probe::text::decimal_size;
use crate::store::images::{self, Brought, Listed};
use crate::sys::tree::Tree;

/// This program.
const THIS: &str = "/proc/self/exe";

pub(super) fn run(command: ImageCommand) -> anyhow::Result<()> {
    let (manifest, version) = match command {
        ImageCommand::Pack(args) => {
            let made = make::make(&wishes(args))?;
            (made.manifest, made.version)
        }
        ImageCommand::Check(args) => check::read(&args.image, None)?,
        ImageCommand::Add(args) => add(&args)?,
        ImageCommand::List(args) => return print(&listed(&images::list(&args.data).map_err(Error::msg)?)),
        ImageCommand::Remove(args) => {
            let (word, data) = (args.image, args.from.data);
            return images::remove(&data, &word.name, word.version.as_ref()).map_err(Error::msg);
        }
        ImageCommand::Unpack(args) => unpack(&args.image, &args.root)?,
    };
    print(&shown(&manifest, &version))
}

fn wishes(args: ImagePackArgs) -> Wishes {
    Wishes {
        root: args.root,
        output: args.output,
        kernel: args.kernel,
        recon: args.recon.unwrap_or_else(|| THIS.into()),
        level: args.level,
        newest: args.newest.unwrap_or(u64::MAX),
    }
}

fn add(args: &ImageAddArgs) -> anyhow::Result<(Manifest, String)> {
    let (manifest, version) = check::manifest(&args.image)?;
    let first = manifest.first.keys().map(|path| Path::new(FIRST_STAGE).join(path));
    let files: Vec<PathBuf> = [KERNEL, ROOT].map(PathBuf::from).into_iter().chain(first).collect();
    // The manifest comes last, though the copy counts only once it was read whole.
    let files = [files, vec![MANIFEST.into()]].concat();
    images::add(
        &args.to.data,
        &Brought {
            name: &args.name,
            version: &version.parse()?,
            source: &args.image,
            files: &files,
            check: &|folder| check::read(folder, None).map(drop).map_err(|error| error.to_string()),
        },
    )
    .map_err(Error::msg)?;
    Ok((manifest, version))
}

fn listed(images: &[Listed]) -> Shown {
    let line = |image: &Listed| {
        let state = match (image.is_current, image.is_previous) {
            (true, _) => "  nodes start it",
            (false, true) => "  the one before",
            (false, false) => "",
        };
        format!("{}@{}{state}\n", image.name, image.version)
    };
    Shown::lines(&images.iter().map(line).collect::<String>())
}

fn unpack(image: &Path, root: &Path) -> anyhow::Result<(Manifest, String)> {
    let named = || format!("{}", root.display());
    std::fs::create_dir_all(root).with_context(named)?;
    if std::fs::read_dir(root).with_context(named)?.next().is_some() {
        bail!("{}: the folder is not empty", root.display());
    }
    let tree = Tree::open(root).with_context(named)?;
    Ok(check::read(image, Some(&tree))?)
}

fn shown(manifest: &Manifest, version: &str) -> Shown {
    let root = &manifest.root;
    let first: u64 = manifest.first.values().map(|part| part.bytes).sum();
    Shown::lines(&format!(
        "{ROOT}  {}, unpacked {} in {} entries\n{KERNEL}        {}, {} for {}\n{FIRST_STAGE}         {} in {} files\nversion       {version}\n",
        decimal_size(root.packed.bytes),
        decimal_size(root.unpacked_bytes),
        root.entries,
        decimal_size(manifest.kernel.bytes),
        manifest.kernel_version,
        manifest.arch,
        decimal_size(first),
        manifest.first.len(),
    ))
}
