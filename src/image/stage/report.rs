//! What every part of a first stage costs, as text.

use std::fmt::Write;

use super::Stage;
use super::pieces::{Contents, zstd};
use super::plan::Names;

impl Stage {
    /// A table of sizes, and what is not in it.
    ///
    /// # Errors
    /// Something cannot be packed once more to be measured.
    pub fn report(&self, recon: &[u8]) -> anyhow::Result<String> {
        let mut out = String::new();
        self.of_base(recon, &mut out)?;
        self.of_ports(&mut out)?;
        self.of_pack(&mut out)?;
        let (plan, parts) = (&self.plan, &self.parts);
        writeln!(
            out,
            "manifest: {} modules, {} aliases, {} files",
            parts.modules.len(),
            parts.aliases.len(),
            parts.files.len()
        )?;
        for (name, why) in &plan.left_out {
            writeln!(out, "left out: {name}, because {why}")?;
        }
        for program in &self.missing {
            writeln!(out, "the tree has no program for {program}")?;
        }
        Ok(out)
    }

    fn of_base(&self, recon: &[u8], out: &mut String) -> anyhow::Result<()> {
        let (plan, contents) = (&self.plan, &self.contents);
        writeln!(out, "base.img {}", bytes(self.base.len()))?;
        writeln!(out, "  recon {} of {}", bytes(zstd(recon)?.len()), bytes(recon.len()))?;
        let manifest = self.manifest.as_bytes();
        writeln!(
            out,
            "  manifest {} of {}",
            bytes(zstd(manifest)?.len()),
            bytes(manifest.len())
        )?;
        writeln!(
            out,
            "  modules {} of {}",
            bytes(contents.image(&plan.base)?.len()),
            unpacked(contents, &plan.base)
        )?;
        for name in &plan.base {
            writeln!(out, "    {name} {}", bytes(contents.modules[name].bytes.len()))?;
        }
        Ok(())
    }

    fn of_ports(&self, out: &mut String) -> anyhow::Result<()> {
        let (plan, contents) = (&self.plan, &self.contents);
        writeln!(
            out,
            "ports.img {} of {}",
            bytes(self.any_port.len()),
            unpacked(contents, &plan.any_port)
        )?;
        let mut largest: Vec<(usize, &String)> = self.ports.iter().map(|(name, image)| (image.len(), name)).collect();
        largest.sort_by(|a, b| b.cmp(a));
        let all: usize = largest.iter().map(|(size, _)| size).sum();
        writeln!(out, "port/*.img {}: {} images; the largest:", bytes(all), largest.len())?;
        for (size, name) in largest.iter().take(10) {
            writeln!(
                out,
                "  {name} {} of {}",
                bytes(*size),
                unpacked(contents, &plan.ports[*name])
            )?;
        }
        writeln!(
            out,
            "ports.tsv {}: {} patterns",
            bytes(self.patterns.len()),
            plan.patterns.len()
        )?;
        Ok(())
    }

    fn of_pack(&self, out: &mut String) -> anyhow::Result<()> {
        let (plan, contents, parts) = (&self.plan, &self.contents, &self.parts);
        writeln!(
            out,
            "modules.pack {}: {} modules and {} files of firmware, {}",
            bytes(self.pack.len()),
            plan.pack.len(),
            contents.firmware.len(),
            unpacked(contents, &plan.pack)
        )?;
        for (name, group) in &self.groups {
            let rows = parts.files.iter().filter(|file| group.files.contains_key(&file.path));
            let (packed, size) = rows.fold((0, 0), |(packed, size), row| (packed + row.packed, size + row.size));
            writeln!(
                out,
                "  group {name} {} of {}: {} files",
                bytes(packed as usize),
                bytes(size as usize),
                group.files.len()
            )?;
        }
        Ok(())
    }
}

fn unpacked(contents: &Contents, names: &Names) -> String {
    let (modules, firmware) = contents.sizes(names);
    format!("{} (firmware {})", bytes(modules + firmware), bytes(firmware))
}

fn bytes(count: usize) -> String {
    match count {
        0..10_000 => format!("{count} B"),
        10_000..1_000_000 => format!("{:.1} kB", count as f64 / 1e3),
        _ => format!("{:.2} MB", count as f64 / 1e6),
    }
}
