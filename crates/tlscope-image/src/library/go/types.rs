//! Go's type descriptors: where the fields of a struct are, by name.
//!
//! `internal/abi/type.go`; the parts read here are the same since Go 1.7, but for how a name
//! says its length (two bytes before 1.17) and a field its offset (shifted by one before 1.19).
//! Descriptors are found by the names that they refer to, so a table of them is not needed.

use crate::elf::{Address, Elf, Pclntab};

/// A type descriptor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Type(pub(super) Address);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Field {
    pub(super) offset: u64,
    pub(super) of: Type,
}

/// `reflect.Kind`, as far as needed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Int = 2,
    Interface = 20,
    Pointer = 22,
    Struct = 25,
}

const SIZE: u64 = 0;
const FIELD_ALIGNMENT: u64 = 22;
const KIND: u64 = 23;
const NAME: u64 = 40;
/// Of a pointer: what it points at. Of a struct: its package, then its fields.
const ELEMENT: u64 = 48;
const PACKAGE: u64 = 48;
const FIELDS: u64 = 56;
const FIELD: u64 = 24;

/// The pointer type that is written `shown`, `*name.Type`, to a struct of the package of this
/// path. The name of a package need not be a part of its path.
pub(super) fn pointer_to(
    elf: &Elf<'_>,
    table: &Pclntab<'_>,
    package: &str,
    shown: &str,
) -> Option<Type> {
    // Names are in the program's other texts too, but not with their length before them.
    const TEXTS: usize = 256;
    const NAMES: usize = 4;
    let texts = elf.find_bytes(shown.as_bytes(), TEXTS);
    let names: Vec<Address> = texts
        .into_iter()
        .filter_map(|text| name_before(elf, text, shown.len()))
        .take(NAMES)
        .collect();
    table.types(elf).find_map(|base| {
        names
            .iter()
            .filter_map(|name| u32::try_from(name.distance_from(base)?).ok())
            .filter(|offset| *offset > 0)
            .find_map(|offset| pointer_named(elf, offset, package))
    })
}

/// Where a name begins whose text begins at `text`: a byte of flags, then the length.
fn name_before(elf: &Elf<'_>, text: Address, length: usize) -> Option<Address> {
    let length = u8::try_from(length).ok().filter(|length| *length < 0x80)?;
    let varint = Address(text.0.checked_sub(2)?);
    let [flags, said] = *elf.bytes_from(varint)?.first_chunk()?;
    let long = Address(text.0.checked_sub(3)?);
    match (flags, said) {
        (_, said) if said != length => None,
        // In two bytes, the high one first; flags of a type's name are not zero.
        (0, _) => Some(long),
        _ => Some(varint),
    }
}

/// The descriptor of a pointer to a struct of `package` whose name is at this offset.
fn pointer_named(elf: &Elf<'_>, name: u32, package: &str) -> Option<Type> {
    const MOST: usize = 4096;
    let places = elf.find_bytes(&name.to_le_bytes(), MOST).into_iter();
    let types = places.filter_map(|at| Some(Type(Address(at.0.checked_sub(NAME)?))));
    let mut aligned = types.filter(|found| found.0.0.is_multiple_of(8));
    aligned.find(|found| {
        let element = found.element(elf);
        element.is_some_and(|element| element.package(elf).is_some_and(|named| named == package))
    })
}

impl Type {
    pub(super) fn is(self, elf: &Elf<'_>, kind: Kind) -> bool {
        const MASK: u8 = 0x1f;
        self.byte(elf, KIND)
            .is_some_and(|found| found & MASK == kind as u8)
    }

    /// What a pointer points at.
    pub(super) fn element(self, elf: &Elf<'_>) -> Option<Self> {
        self.is(elf, Kind::Pointer)
            .then(|| elf.pointer_at(self.0.checked_add(ELEMENT)?))
            .flatten()
            .map(Self)
    }

    /// The path of the package of a struct that has fields of its own.
    fn package<'d>(self, elf: &Elf<'d>) -> Option<&'d str> {
        self.is(elf, Kind::Struct)
            .then(|| text_of(elf, elf.pointer_at(self.0.checked_add(PACKAGE)?)?))
            .flatten()
    }

    /// A field of a struct. Its offset is what the sizes of the fields before it make it; the
    /// descriptor must say the same, in one of the two ways there are.
    pub(super) fn field(self, elf: &Elf<'_>, name: &str) -> Option<Field> {
        const MOST: u64 = 1024;
        if !self.is(elf, Kind::Struct) {
            return None;
        }
        let fields = elf.pointer_at(self.0.checked_add(FIELDS)?)?;
        let count = elf.word_at(self.0.checked_add(FIELDS + 8)?)?;
        let mut end = 0_u64;
        for index in 0..count.min(MOST) {
            let field = fields.checked_add(index * FIELD)?;
            let of = Self(elf.pointer_at(field.checked_add(8)?)?);
            let alignment = u64::from(of.byte(elf, FIELD_ALIGNMENT)?).max(1);
            let offset = end.checked_next_multiple_of(alignment)?;
            let said = elf.word_at(field.checked_add(16)?)?;
            if said != offset && said >> 1 != offset {
                return None;
            }
            if text_of(elf, elf.pointer_at(field)?)? == name {
                return Some(Field { offset, of });
            }
            end = offset.checked_add(elf.word_at(of.0.checked_add(SIZE)?)?)?;
        }
        None
    }

    fn byte(self, elf: &Elf<'_>, at: u64) -> Option<u8> {
        elf.bytes_from(self.0.checked_add(at)?)?.first().copied()
    }
}

/// The text of a name: behind a byte of flags, its length in one byte or in two.
fn text_of<'d>(elf: &Elf<'d>, name: Address) -> Option<&'d str> {
    let bytes = elf.bytes_from(name)?;
    let text = match *bytes.first_chunk::<3>()? {
        [_, 0, length] => bytes.get(3..3 + usize::from(length))?,
        [_, length, _] => bytes.get(2..2 + usize::from(length))?,
    };
    std::str::from_utf8(text).ok()
}
