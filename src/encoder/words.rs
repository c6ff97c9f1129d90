//! The word table of an int8 model, left on the disk: a text's tokens are read row by row, 0.4 µs each out of the system's page cache.
//!
//! In memory it would be 96 of the bilingual model's megabytes, once more for each session where ONNX Runtime maps the file, though a shop's
//! texts use some thousands of its 250,000 rows.
//!
//! The file: a factor for each column (f32), then the rows, each a scale (f32) and its numbers (int8). A number is worth `number * scale * factor`.

use std::{fs::File, io, path::Path};

use super::quantise::Table;

/// An open word table; sessions share one.
pub(super) struct Words {
    file: File,
    factors: Vec<f32>,
}

/// The file of `table`.
pub(super) fn file_of(table: &Table) -> Vec<u8> {
    let mut file: Vec<u8> = table.factors.iter().flat_map(|factor| factor.to_le_bytes()).collect();
    for (scale, row) in table.scales.iter().zip(table.numbers.chunks_exact(table.factors.len())) {
        file.extend(scale.to_le_bytes());
        file.extend(row.iter().map(|number| number.cast_unsigned()));
    }
    file
}

impl Words {
    /// Opens a table of rows `width` wide.
    pub(super) fn open(path: &Path, width: usize) -> io::Result<Self> {
        let file = File::open(path)?;
        let mut factors = vec![0; 4 * width];
        read_at(&file, &mut factors, 0)?;
        Ok(Self { file, factors: factors.as_chunks().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect() })
    }

    /// Writes the vector of token `id` into `to`, as wide as the table.
    pub(super) fn look_up(&self, id: u32, to: &mut [f32]) -> io::Result<()> {
        let width = self.factors.len();
        let mut row = vec![0; 4 + width];
        let bytes = row.len() as u64;
        read_at(&self.file, &mut row, (4 * width) as u64 + u64::from(id) * bytes)?;
        let Some((scale, numbers)) = row.split_first_chunk() else { return Err(io::ErrorKind::UnexpectedEof.into()) };
        let scale = f32::from_le_bytes(*scale);
        for ((to, number), factor) in to.iter_mut().zip(numbers).zip(&self.factors) {
            *to = f32::from(number.cast_signed()) * scale * factor;
        }
        Ok(())
    }
}

#[cfg(unix)]
fn read_at(file: &File, to: &mut [u8], place: u64) -> io::Result<()> {
    std::os::unix::fs::FileExt::read_exact_at(file, to, place)
}

#[cfg(windows)]
fn read_at(file: &File, mut to: &mut [u8], mut place: u64) -> io::Result<()> {
    while !to.is_empty() {
        match std::os::windows::fs::FileExt::seek_read(file, to, place)? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            count => {
                to = &mut to[count..];
                place += count as u64;
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_come_back_as_numbers_times_scale_times_factor() {
        let table = Table { numbers: vec![1, -2, 127, -127], scales: vec![0.5, 2.0], factors: vec![1.0, 3.0] };
        let place = tempfile::tempdir().unwrap();
        std::fs::write(place.path().join("words"), file_of(&table)).unwrap();
        let words = Words::open(&place.path().join("words"), 2).unwrap();

        let mut row = [0.0; 2];
        words.look_up(1, &mut row).unwrap();
        assert_eq!(row.to_vec(), [254.0, -762.0]);
        words.look_up(0, &mut row).unwrap();
        assert_eq!(row.to_vec(), [0.5, -3.0]);
        assert!(words.look_up(2, &mut row).is_err(), "there is no such row");
    }
}
