//! States as bytes: a header, numbers in little-endian order, and a checksum. Nothing in them is ever executed, and
//! bytes that are cut, changed or of another kind are refused.

use crate::error::Error;
use crate::features::Coordinates;
use crate::float::Float;
use crate::runtime::buffer;

/// The first bytes.
const MAGIC: [u8; 8] = *b"ATTNGRAD";

/// The layout of everything behind the header; another one is refused.
const VERSION: u16 = 1;

/// Bytes of the checksum at the end.
const CHECKSUM: usize = 4;

/// Bytes before the numbers.
const HEADER: usize = MAGIC.len() + 2 + 2 + 2 + 2 + 4 + 4 + 8;

/// The thing that the numbers are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u16)]
pub enum Kind {
    Frame = 1,
    Keys = 2,
    Queries = 3,
    Gradients = 4,
    Softmax = 5,
}

impl Kind {
    fn name(code: u16) -> &'static str {
        match code {
            1 => "a frame",
            2 => "a state of keys",
            3 => "a state of queries",
            4 => "a state of gradients",
            5 => "a softmax state",
            _ => "something unknown",
        }
    }
}

/// Which states belong together: those of one frame, of one precision.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stamp {
    /// Bytes of a number of the inputs.
    precision: u16,
    /// The degree of the polynomial; 0 where exp itself is computed.
    degree: u16,
    /// Width of what is summed: the coordinates, or the values.
    width: u32,
    /// Checksum of all that the states have in common.
    common: u32,
}

impl Stamp {
    /// For inputs of type T, of states that have nothing else in common yet.
    pub fn new<T: Float>(degree: usize, width: usize) -> Self {
        Stamp { precision: size_of::<T>() as u16, degree: degree as u16, width: width as u32, common: 0 }
    }

    /// The same for states that have in common what these bytes say, which end in their checksum.
    pub fn with_common(self, bytes: &[u8]) -> Self {
        // With its checksum every text has the same one.
        self.with_sum(crc32fast::hash(&bytes[..bytes.len().saturating_sub(CHECKSUM)]))
    }

    /// The same for states that have in common what has this checksum.
    pub fn with_sum(self, common: u32) -> Self {
        Stamp { common, ..self }
    }

    /// Name of the precision.
    pub fn precision(&self) -> &'static str {
        if usize::from(self.precision) == size_of::<f32>() { f32::NAME } else { f64::NAME }
    }

    /// Refuses what does not belong to the same states; the message names the first difference.
    pub fn require(&self, other: Stamp) -> Result<(), Error> {
        let refused = |found: String, wanted: String| Err(refused(found, wanted));
        if self.precision != other.precision {
            return refused(format!("one of {}", other.precision()), format!("one of {}", self.precision()));
        }
        if self.degree != other.degree {
            return refused(format!("one of degree {}", other.degree), format!("one of degree {}", self.degree));
        }
        if self.width != other.width {
            return refused(format!("one of width {}", other.width), format!("one of width {}", self.width));
        }
        if self.common != other.common {
            let wanted = "one of the same frame or queries, scale, weights, polynomial and outputs".into();
            return refused("one of another problem or plan".into(), wanted);
        }
        Ok(())
    }
}

/// The error for a state that does not belong here.
pub fn refused(found: String, wanted: String) -> Error {
    Error::Option { option: "state", found, wanted }
}

/// Bytes of a state with so many numbers.
pub fn size(numbers: usize) -> usize {
    HEADER + 8 * numbers + CHECKSUM
}

/// Bytes that grow.
pub struct Writer(Vec<u8>);

impl Writer {
    /// With the header, for so many numbers of eight bytes.
    pub fn new(kind: Kind, stamp: Stamp, numbers: usize) -> Result<Self, Error> {
        let mut bytes = buffer::with_capacity(size(numbers))?;
        bytes.extend_from_slice(&MAGIC);
        for number in [VERSION, kind as u16, stamp.precision, stamp.degree] {
            bytes.extend_from_slice(&number.to_le_bytes());
        }
        bytes.extend_from_slice(&stamp.width.to_le_bytes());
        bytes.extend_from_slice(&stamp.common.to_le_bytes());
        bytes.extend_from_slice(&(numbers as u64).to_le_bytes());
        Ok(Writer(bytes))
    }

    /// The next whole numbers.
    pub fn counts(&mut self, numbers: impl IntoIterator<Item = usize>) {
        numbers.into_iter().for_each(|number| self.0.extend_from_slice(&(number as u64).to_le_bytes()));
    }

    /// The next numbers.
    pub fn floats(&mut self, numbers: impl IntoIterator<Item = f64>) {
        numbers.into_iter().for_each(|number| self.0.extend_from_slice(&number.to_le_bytes()));
    }

    /// All bytes, with their checksum.
    pub fn finish(mut self) -> Vec<u8> {
        let sum = crc32fast::hash(&self.0);
        self.0.extend_from_slice(&sum.to_le_bytes());
        self.0
    }
}

/// Numbers that are read in the order in which they were written.
pub struct Reader<'a> {
    rest: &'a [[u8; 8]],
}

impl<'a> Reader<'a> {
    /// Checks everything around the numbers.
    ///
    /// # Errors
    /// [`Error::Option`] for bytes that are no state, of another kind or version, incomplete or changed.
    pub fn new(kind: Kind, bytes: &'a [u8]) -> Result<(Self, Stamp), Error> {
        let wanted = |found: &str| Err(refused(found.into(), format!("the bytes of {}", Kind::name(kind as u16))));
        if bytes.len() < HEADER + CHECKSUM || bytes[..MAGIC.len()] != MAGIC {
            return wanted(if bytes.starts_with(&MAGIC) { "bytes that were cut short" } else { "other bytes" });
        }
        let short = |at: usize| u16::from_le_bytes([bytes[at], bytes[at + 1]]);
        let word = |at: usize| u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
        let at = MAGIC.len();
        if short(at) != VERSION {
            return Err(refused(format!("bytes of version {}", short(at)), format!("version {VERSION}")));
        }
        let (body, sum) = bytes.split_at(bytes.len() - CHECKSUM);
        if crc32fast::hash(body).to_le_bytes() != sum {
            return wanted("bytes that were cut short or changed (their checksum is another)");
        }
        if short(at + 2) != kind as u16 {
            return wanted(&format!("those of {}", Kind::name(short(at + 2))));
        }
        let stamp =
            Stamp { precision: short(at + 4), degree: short(at + 6), width: word(at + 8), common: word(at + 12) };
        let (rest, over) = body[HEADER..].as_chunks::<8>();
        let count = [word(at + 16), word(at + 20)].map(u64::from);
        if !over.is_empty() || rest.len() as u64 != count[0] + (count[1] << 32) {
            return wanted("bytes of another length");
        }
        Ok((Reader { rest }, stamp))
    }

    fn take(&mut self, count: usize) -> Result<&'a [[u8; 8]], Error> {
        let (now, rest) = self.rest.split_at_checked(count).ok_or_else(short)?;
        self.rest = rest;
        Ok(now)
    }

    /// The next whole number.
    pub fn count(&mut self) -> Result<usize, Error> {
        let [number] = self.take(1)?.first_chunk::<1>().copied().ok_or_else(short)?;
        usize::try_from(u64::from_le_bytes(number)).map_err(|_| short())
    }

    /// The next number.
    pub fn float(&mut self) -> Result<f64, Error> {
        let [number] = self.take(1)?.first_chunk::<1>().copied().ok_or_else(short)?;
        Ok(f64::from_le_bytes(number))
    }

    /// The next so many numbers.
    pub fn floats(&mut self, count: usize) -> Result<Vec<f64>, Error> {
        buffer::collected(self.take(count)?.iter().map(|number| f64::from_le_bytes(*number)))
    }

    /// Nothing may be left.
    pub fn end(&self) -> Result<(), Error> {
        if self.rest.is_empty() { Ok(()) } else { Err(short()) }
    }
}

/// Numbers that do not fit their own header.
fn short() -> Error {
    refused("bytes that contradict themselves".into(), "those of `to_bytes`".into())
}

/// Numbers of the coordinates.
pub fn coordinates_size(of: &Coordinates) -> usize {
    let row = of.row.as_ref().map_or(0, |row| row.len());
    let arrays = of.query.len() + row + of.key.len() + of.inverse.len() + of.transposed.len();
    // The numbers of rows of A1, A2 and A3, of coordinates, and whether there is a way back.
    5 + of.mean.len() + arrays + of.input_centre.len() + 4
}

/// Writes the coordinates.
pub fn write_coordinates(of: &Coordinates, to: &mut Writer) {
    let (d1, d) = of.query.dim();
    to.counts([d1, of.mean.len(), of.input_centre.len(), d, usize::from(of.row.is_some())]);
    to.floats(of.mean.iter().copied());
    let arrays = [Some(&of.query), of.row.as_ref(), Some(&of.key), Some(&of.inverse), Some(&of.transposed)];
    arrays.into_iter().flatten().for_each(|array| to.floats(array.iter().copied()));
    to.floats(of.input_centre.iter().copied());
    to.floats([of.spread, of.value_exponent, of.incoming_exponent, of.residual_exponent]);
}

/// Reads them again.
pub fn read_coordinates(from: &mut Reader<'_>) -> Result<Coordinates, Error> {
    let sizes = [from.count()?, from.count()?, from.count()?, from.count()?, from.count()?];
    // No product of these overflows; a lie is found when the numbers run out.
    if sizes.iter().any(|&size| size > 1 << 20) {
        return Err(short());
    }
    let [d1, d2, d3, d, has_row] = sizes;
    let mut matrix =
        |rows: usize, columns: usize| crate::linalg::products::matrix(from.floats(rows * columns)?, rows, columns);
    let mean = matrix(1, d2)?.into_shape_with_order(d2).map_err(|_| short())?;
    let query = matrix(d1, d)?;
    let row = if has_row == 1 { Some(matrix(d, d1)?) } else { None };
    let (key, inverse, transposed) = (matrix(d2, d)?, matrix(d, d)?, matrix(d, d)?);
    let input_centre = matrix(1, d3)?.into_shape_with_order(d3).map_err(|_| short())?;
    Ok(Coordinates {
        mean,
        query,
        row,
        key,
        inverse,
        transposed,
        input_centre,
        spread: from.float()?,
        value_exponent: from.float()?,
        incoming_exponent: from.float()?,
        residual_exponent: from.float()?,
    })
}
