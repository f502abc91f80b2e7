//! `recon image`: root file systems as images.

use std::path::{Path, PathBuf};

use anyhow::{Context, Error, bail};

use super::args::{ImageAddArgs, ImageCheckArgs, ImageCommand, ImagePackArgs, ImageSignArgs};
use super::output::print;
use crate::config::load::small_file;
use crate::formats::image::{
    FIRST_STAGE, KERNEL, MANIFEST, MAX_BYTES, MAX_SIGNATURE_BYTES, MAX_TRUSTED_BYTES, Manifest, ROOT, SIGNATURE,
    SQUASHFS,
};
use crate::image::make::{self, Wishes};
use crate::image::signature::{self, Trusted};
use crate::image::source::Source;
use crate::image::{ImageError, check};
use crate::model::shown::Shown;
use crate::probe::text::decimal_size;
use crate::store::images::{self, Brought, Listed};
use crate::sys::tree::Tree;

/// This program.
const THIS: &str = "/proc/self/exe";

pub(super) fn run(command: ImageCommand) -> anyhow::Result<()> {
    let (manifest, version) = match command {
        ImageCommand::Pack(args) => {
            let source = Source::of(&args.root, &args.output)?;
            let given = args.root.clone();
            let made = make::make(&wishes(args, &source)?);
            // What a person named, instead of what is gone by then.
            let named = |error: ImageError| {
                let words = error
                    .to_string()
                    .replace(&*source.root().to_string_lossy(), &given.to_string_lossy());
                Error::msg(words)
            };
            let made = made.map_err(named)?;
            (made.manifest, made.version)
        }
        ImageCommand::Check(args) => checked(&args)?,
        ImageCommand::Sign(args) => return sign(&args),
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

/// Text of a person's, up to a length.
fn text(path: &Path, most: u64) -> anyhow::Result<String> {
    let named = || path.display().to_string();
    let bytes = small_file(path, most).with_context(named)?;
    let bytes = bytes.with_context(|| format!("{}: there is no such file", path.display()))?;
    if bytes.len() as u64 > most {
        bail!("{}: it has more than {most} bytes", path.display());
    }
    String::from_utf8(bytes).with_context(named)
}

fn checked(args: &ImageCheckArgs) -> anyhow::Result<(Manifest, String)> {
    if let Some(keys) = &args.trust {
        let trusted = Trusted::read(&text(keys, MAX_TRUSTED_BYTES)?).map_err(Error::msg);
        check::signed(&args.image, &trusted.with_context(|| keys.display().to_string())?)?;
    }
    Ok(check::read(&args.image, None)?)
}

/// The signature is that of this manifest, and what it says is what is there.
fn sign(args: &ImageSignArgs) -> anyhow::Result<()> {
    check::read(&args.image, None)?;
    let manifest = text(&args.image.join(MANIFEST), MAX_BYTES)?;
    let key = text(&args.key, MAX_TRUSTED_BYTES)?;
    let signature = signature::sign(key.as_bytes(), manifest.as_bytes()).map_err(Error::msg);
    let signature = signature.with_context(|| args.key.display().to_string())?;
    make::put(&args.image, SIGNATURE, signature.as_bytes())?;
    print(&Shown::lines(&format!("{}\n", args.image.join(SIGNATURE).display())))
}

fn wishes(args: ImagePackArgs, source: &Source) -> anyhow::Result<Wishes> {
    Ok(Wishes {
        root: source.root().to_owned(),
        output: args.output,
        kernel: args.kernel,
        recon: args.recon.unwrap_or_else(|| THIS.into()),
        level: args.level,
        newest: args.newest.unwrap_or(u64::MAX),
        squashfs: !args.no_squashfs,
        trusted: args.trust.map(|keys| text(&keys, MAX_TRUSTED_BYTES)).transpose()?,
    })
}

fn add(args: &ImageAddArgs) -> anyhow::Result<(Manifest, String)> {
    let (manifest, version) = check::manifest(&args.image)?;
    let first = manifest.first.keys().map(|path| Path::new(FIRST_STAGE).join(path));
    let squashfs = manifest.squashfs.as_ref().map(|_| SQUASHFS.into());
    let files: Vec<PathBuf> = [KERNEL, ROOT]
        .map(PathBuf::from)
        .into_iter()
        .chain(squashfs)
        .chain(first)
        .collect();
    let signature = args.image.join(SIGNATURE);
    if signature.exists() {
        let text = text(&signature, MAX_SIGNATURE_BYTES)?;
        let manifest = self::text(&args.image.join(MANIFEST), MAX_BYTES)?;
        signature::is_of(manifest.as_bytes(), text.as_bytes())
            .map_err(Error::msg)
            .with_context(|| signature.display().to_string())?;
    }
    // The manifest comes last, though the copy counts only once it was read whole.
    let files = [files, vec![MANIFEST.into()]].concat();
    images::add(
        &args.to.data,
        &Brought {
            name: &args.name,
            version: &version.parse()?,
            source: &args.image,
            files: &files,
            signature: signature.exists().then_some(&signature),
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
    let squashfs = manifest.squashfs.as_ref();
    let squashfs = squashfs.map_or("none".to_owned(), |part| decimal_size(part.bytes));
    Shown::lines(&format!(
        "{ROOT}  {}, unpacked {} in {} entries\n{SQUASHFS} {squashfs}\n{KERNEL}        {}, {} for {}\n{FIRST_STAGE}         {} in {} files\nversion       {version}\n",
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
