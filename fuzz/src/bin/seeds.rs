//! Seed writer: writes the seeds of all formats, in a folder for each.

use std::path::PathBuf;
use std::{env, fs, io};

fn main() -> io::Result<()> {
    let folder = env::args_os().nth(1).map(PathBuf::from);
    let folder = folder.ok_or_else(|| io::Error::other("name the folder for the seeds"))?;
    for format in pmx_fuzz::FORMATS {
        let folder = folder.join(format.name);
        fs::create_dir_all(&folder)?;
        for (number, seed) in (format.seeds)().iter().enumerate() {
            fs::write(folder.join(number.to_string()), seed)?;
        }
    }
    Ok(())
}
