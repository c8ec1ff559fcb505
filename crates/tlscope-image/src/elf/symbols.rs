//! Function names: by name, and by address.

use std::borrow::Cow;
use std::collections::HashMap;
use std::fmt;

use object::LittleEndian;
use object::elf::{SHT_DYNSYM, SHT_SYMTAB, STT_FUNC, STT_GNU_IFUNC, SectionType, Sym64};
use object::read::elf::{Sym, SymbolTable};

use super::debug_files::{self, Files};
use super::dynamic::Dynamic;
use super::{Address, Header, Sections};

/// A function that the image defines and names.
#[derive(Debug, Clone)]
pub struct Symbol<'d> {
    pub name: Cow<'d, str>,
    pub address: Address,
    /// 0 when the table does not say.
    pub size: u64,
    pub source: SymbolSource,
}

/// Where a name was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SymbolSource {
    DynSym,
    SymTab,
    /// The compressed table in `.gnu_debugdata`.
    MiniDebugInfo,
    /// A debug file found by the image's build id.
    BuildId,
    /// A debug file that `.gnu_debuglink` names.
    DebugLink,
}

impl fmt::Display for SymbolSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::DynSym => ".dynsym",
            Self::SymTab => ".symtab",
            Self::MiniDebugInfo => ".gnu_debugdata",
            Self::BuildId => "the debug file of its build id",
            Self::DebugLink => "the debug file of its .gnu_debuglink",
        })
    }
}

/// All function names of an image.
#[derive(Debug, Default)]
pub struct Symbols<'d> {
    /// Sorted by address.
    functions: Vec<Symbol<'d>>,
    by_name: HashMap<Cow<'d, str>, usize>,
}

impl<'d> Symbols<'d> {
    pub(super) fn read(sections: &Sections<'d>, bytes: &'d [u8], files: &dyn Files) -> Self {
        let mut functions = Vec::new();
        // .dynsym first: where two tables name a function, the exported name is the one to show.
        for (kind, source) in [
            (SHT_DYNSYM, SymbolSource::DynSym),
            (SHT_SYMTAB, SymbolSource::SymTab),
        ] {
            functions.extend(read_table(sections, bytes, kind, source));
        }
        if !functions
            .iter()
            .any(|symbol| symbol.source == SymbolSource::SymTab)
        {
            functions.extend(debug_files::symbols(sections, bytes, files));
        }
        Self::new(functions)
    }

    /// As the loader finds them, for an image without sections.
    pub(super) fn of_loader(dynamic: &Dynamic<'_, 'd>) -> Self {
        let functions = dynamic.symbols().iter().filter_map(|symbol| {
            let name = || dynamic.name_of(symbol);
            function(symbol, name, SymbolSource::DynSym)
        });
        Self::new(functions.collect())
    }

    fn new(mut functions: Vec<Symbol<'d>>) -> Self {
        functions.sort_by_key(|symbol| symbol.address);
        let mut by_name = HashMap::with_capacity(functions.len());
        for (index, symbol) in functions.iter().enumerate() {
            by_name.entry(symbol.name.clone()).or_insert(index);
        }
        Self { functions, by_name }
    }

    pub fn get(&self, name: &str) -> Option<&Symbol<'d>> {
        self.functions.get(*self.by_name.get(name)?)
    }

    /// Every place that a name stands for: more than one if the image holds two copies of a
    /// library.
    pub fn addresses_of(&self, name: &str) -> Vec<Address> {
        let named = self.functions.iter().filter(|symbol| symbol.name == name);
        let mut addresses: Vec<Address> = named.map(|symbol| symbol.address).collect();
        addresses.dedup();
        addresses
    }

    /// The function that starts at an address.
    pub fn at(&self, address: Address) -> Option<&Symbol<'d>> {
        let index = self
            .functions
            .partition_point(|symbol| symbol.address < address);
        self.functions
            .get(index)
            .filter(|symbol| symbol.address == address)
    }

    /// The function whose bytes hold an address.
    pub fn around(&self, address: Address) -> Option<&Symbol<'d>> {
        let end = self
            .functions
            .partition_point(|symbol| symbol.address <= address);
        let nearest = self.functions.get(end.checked_sub(1)?)?;
        let size = nearest.size.max(1);
        (address.distance_from(nearest.address)? < size).then_some(nearest)
    }

    pub fn len(&self) -> usize {
        self.functions.len()
    }

    pub fn is_empty(&self) -> bool {
        self.functions.is_empty()
    }

    pub fn iter(&self) -> impl Iterator<Item = &Symbol<'d>> {
        self.functions.iter()
    }
}

/// The functions of another file's `.symtab`, which need not outlive this one.
pub(super) fn owned_symtab(
    sections: &Sections<'_>,
    bytes: &[u8],
    source: SymbolSource,
) -> Vec<Symbol<'static>> {
    read_table(sections, bytes, SHT_SYMTAB, source)
        .into_iter()
        .map(|symbol| Symbol {
            name: Cow::Owned(symbol.name.into_owned()),
            address: symbol.address,
            size: symbol.size,
            source: symbol.source,
        })
        .collect()
}

fn read_table<'d>(
    sections: &Sections<'d>,
    bytes: &'d [u8],
    kind: SectionType,
    source: SymbolSource,
) -> Vec<Symbol<'d>> {
    let Ok(table) = sections.symbols(LittleEndian, bytes, kind) else {
        return Vec::new();
    };
    let table: SymbolTable<'d, Header> = table;
    let of_table = |symbol| {
        let name = || std::str::from_utf8(table.symbol_name(LittleEndian, symbol).ok()?).ok();
        function(symbol, name, source)
    };
    table.iter().filter_map(of_table).collect()
}

/// The function that an entry of a table defines.
fn function<'d>(
    symbol: &Sym64<LittleEndian>,
    name: impl FnOnce() -> Option<&'d str>,
    source: SymbolSource,
) -> Option<Symbol<'d>> {
    let is_function = matches!(symbol.st_type(), STT_FUNC | STT_GNU_IFUNC);
    if symbol.is_undefined(LittleEndian) || !is_function {
        return None;
    }
    Some(Symbol {
        name: Cow::Borrowed(name().filter(|name| !name.is_empty())?),
        address: Address(symbol.st_value(LittleEndian)),
        size: symbol.st_size(LittleEndian),
        source,
    })
}
