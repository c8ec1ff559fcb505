//! The DWARF of a build with debug information: what functions and fields really are.
//!
//! A plan's paths are numbers. Walked through the types that the compiler wrote down, each has to
//! end at the very field that it stands for: `ssl_st.s3 -> ssl3_state_st.client_random`.

use std::collections::BTreeMap;
use std::path::Path;

use gimli::{AttributeValue, DwTag, EndianSlice, LittleEndian, constants as dw};
use object::{Object, ObjectSection};

use crate::zoo::fetch::read;
use crate::zoo::plan::{Plan, Probe, Value};

/// What the last field of a path may be called: in OpenSSL and LibreSSL, or in BoringSSL.
const CLIENT_RANDOM: &[&str] = &["client_random"];
const MASTER_SECRET: &[&str] = &["master_key", "secret"];
const MASTER_SECRET_LENGTH: &[&str] = &["master_key_length", "secret_length"];

type Slice<'d> = EndianSlice<'d, LittleEndian>;
type Offset = usize;

/// Types and functions, by their place in `.debug_info`.
#[derive(Debug, Default)]
pub struct Dwarf {
    entries: BTreeMap<Offset, Entry>,
    /// Definitions of structures, by name: elsewhere they are only declared.
    structures: BTreeMap<String, Offset>,
    functions: BTreeMap<u64, Offset>,
}

#[derive(Debug)]
struct Entry {
    tag: DwTag,
    name: Option<String>,
    /// `DW_AT_type`.
    of: Option<Offset>,
    /// What an instance was made of: `DW_AT_abstract_origin` or `DW_AT_specification`.
    origin: Option<Offset>,
    /// Where a member lies in its structure.
    place: u64,
    children: Vec<Offset>,
}

impl Dwarf {
    /// `None` for an image without DWARF.
    #[track_caller]
    pub fn of(image: &Path) -> Option<Self> {
        let bytes = read(image);
        let file = object::File::parse(bytes.as_slice()).expect("an ELF file");
        file.section_by_name(".debug_info")?;
        let load = |id: gimli::SectionId| -> Result<Slice<'_>, gimli::Error> {
            let section = file.section_by_name(id.name());
            let data = section.and_then(|section| section.data().ok());
            Ok(EndianSlice::new(data.unwrap_or_default(), LittleEndian))
        };
        let dwarf = gimli::Dwarf::load(load).expect("sections of DWARF");
        let mut found = Self::default();
        let mut units = dwarf.units();
        while let Some(header) = units.next().expect("a unit of DWARF") {
            let unit = dwarf.unit(header).expect("a unit of DWARF");
            found.add_unit(&dwarf, &unit).expect("entries of DWARF");
        }
        Some(found)
    }

    fn add_unit<'d>(
        &mut self,
        dwarf: &gimli::Dwarf<Slice<'d>>,
        unit: &gimli::Unit<Slice<'d>>,
    ) -> gimli::Result<()> {
        let absolute = |at: gimli::UnitOffset| at.to_debug_info_offset(&unit.header).map(|at| at.0);
        let mut parents: Vec<Offset> = Vec::new();
        let mut entries = unit.entries();
        while let Some(entry) = entries.next_dfs()? {
            let Some(offset) = absolute(entry.offset()) else {
                continue;
            };
            parents.truncate(usize::try_from(entry.depth()).unwrap_or_default());
            let parent = parents.last().copied();
            parents.push(offset);
            let reference = |name| match entry.attr_value(name)? {
                AttributeValue::UnitRef(at) => absolute(at),
                AttributeValue::DebugInfoRef(at) => Some(at.0),
                _ => None,
            };
            let text = |name| {
                let text = dwarf.attr_string(unit, entry.attr_value(name)?).ok()?;
                Some(text.to_string_lossy().into_owned())
            };
            let place = entry.attr_value(dw::DW_AT_data_member_location);
            let made = Entry {
                tag: entry.tag(),
                name: text(dw::DW_AT_name),
                of: reference(dw::DW_AT_type),
                origin: reference(dw::DW_AT_abstract_origin)
                    .or_else(|| reference(dw::DW_AT_specification)),
                place: place.and_then(|place| place.udata_value()).unwrap_or(0),
                children: Vec::new(),
            };
            let is_declaration = entry.attr_value(dw::DW_AT_declaration).is_some();
            if let Some(name) = made
                .name
                .as_ref()
                .filter(|_| is_structure(made.tag) && !is_declaration)
            {
                self.structures.entry(name.clone()).or_insert(offset);
            }
            if made.tag == dw::DW_TAG_subprogram {
                // The first of its ranges is the function; the others are cold parts.
                let range = dwarf.die_ranges(unit, entry)?.next()?;
                let start = range.map(|range| range.begin).filter(|start| *start > 0);
                self.functions.extend(start.map(|start| (start, offset)));
            }
            if let Some(parent) = parent.and_then(|parent| self.entries.get_mut(&parent)) {
                parent.children.push(offset);
            }
            self.entries.insert(offset, made);
        }
        Ok(())
    }

    /// Whether it is of the library too: a part of a program may be built without.
    pub fn knows(&self, plan: &Plan) -> bool {
        let mut probes = plan.probes.iter();
        probes.any(|probe| self.functions.contains_key(&probe.address))
    }

    /// Each probe with a name is on the function of that name, and each path leads to the field
    /// that it stands for. Returns what was compared, in words.
    #[track_caller]
    pub fn assert_agrees(&self, plan: &Plan) -> String {
        let mut said = Vec::new();
        for probe in &plan.probes {
            let function = self.function(probe);
            if let Some(name) = probe.name() {
                assert!(is_called(name, &function), "{function}: {probe:?}");
            }
        }
        for probe in plan.secrets() {
            let paths = [
                ("client random", &plan.layout.client_random, CLIENT_RANDOM),
                ("master secret", &plan.layout.master_secret, MASTER_SECRET),
                (
                    "its length",
                    &plan.layout.master_secret_length,
                    MASTER_SECRET_LENGTH,
                ),
            ];
            let function = self.function(probe);
            if !plan.is_told_connection(probe) {
                said.push(function);
                continue;
            }
            for (what, value, names) in paths {
                if let Some(value) = value {
                    let walk = self.assert_leads_to(probe, value, names);
                    said.push(format!("{function}: {what} is {walk}"));
                }
            }
            if plan.layout.client_random.is_none() {
                said.push(function);
            }
        }
        said.join("; ")
    }

    /// What the function at a probe is called.
    #[track_caller]
    fn function(&self, probe: &Probe) -> String {
        let Some(offset) = self.functions.get(&probe.address) else {
            panic!("DWARF knows no function where this is: {probe:?}");
        };
        self.name(*offset).expect("a function with a name")
    }

    #[track_caller]
    fn assert_leads_to(&self, probe: &Probe, value: &Value, names: &[&str]) -> String {
        let start = self.connection_of(probe);
        let walked = self.walk(start, &value.path);
        let walked = walked.unwrap_or_else(|why| panic!("{value:?} of {probe:?}: {why}"));
        let last = walked.rsplit(['.', ' ']).next().unwrap_or_default();
        assert!(names.contains(&last), "{value:?} of {probe:?} is {walked}");
        walked
    }

    /// The structure that the function at a probe gets a pointer to: its connection.
    #[track_caller]
    fn connection_of(&self, probe: &Probe) -> Offset {
        let function = self.functions[&probe.address];
        let parameters = self.parameters(function);
        let pointed = parameters.iter().filter_map(|of| self.pointee(*of));
        let mut structures = pointed.filter(|of| is_structure(self.entries[of].tag));
        match structures.next() {
            Some(structure) => structure,
            None => panic!("no pointer to a structure among the arguments: {probe:?}"),
        }
    }

    /// The types of a function's parameters; an instance that was made of it may lack some.
    fn parameters(&self, function: Offset) -> Vec<Offset> {
        let entry = &self.entries[&function];
        let own = entry.children.iter();
        let own = own.filter(|child| self.entries[child].tag == dw::DW_TAG_formal_parameter);
        let types: Vec<_> = own.filter_map(|child| self.type_of(*child)).collect();
        match (types.is_empty(), entry.origin) {
            (true, Some(origin)) => self.parameters(origin),
            _ => types,
        }
    }

    /// Follows a path through the fields of a structure and of what they point at.
    fn walk(&self, start: Offset, path: &[u32]) -> Result<String, String> {
        let Some((last, pointers)) = path.split_last() else {
            return Err("an empty path".into());
        };
        let mut of = start;
        let mut said = String::new();
        for offset in pointers {
            let (name, field) = self.field(of, u64::from(*offset))?;
            said.push_str(&name);
            said.push_str(" -> ");
            of = self
                .pointee(field)
                .ok_or_else(|| format!("{said}is no pointer"))?;
        }
        let (name, _) = self.field(of, u64::from(*last))?;
        Ok(said + &name)
    }

    /// The innermost field at an offset of a structure, by name, and its type.
    fn field(&self, structure: Offset, offset: u64) -> Result<(String, Offset), String> {
        let (mut of, mut rest) = (self.definition(structure), offset);
        let mut said = self.name(of).unwrap_or_else(|| "?".into());
        while is_structure(self.entries[&of].tag) {
            let members = self.entries[&of].children.iter().filter(|child| {
                let tag = self.entries[child].tag;
                tag == dw::DW_TAG_member || tag == dw::DW_TAG_inheritance
            });
            let around = members.filter(|member| self.entries[member].place <= rest);
            let Some(member) = around.max_by_key(|member| self.entries[member].place) else {
                return Err(format!("{said} has nothing at {offset:#x}"));
            };
            let entry = &self.entries[member];
            rest -= entry.place;
            if let Some(name) = &entry.name {
                said.push('.');
                said.push_str(name);
            }
            let inner = self.type_of(*member).ok_or("a field without a type")?;
            of = self.definition(inner);
        }
        match rest {
            0 => Ok((said, of)),
            _ => Err(format!("{said} begins {rest:#x} before {offset:#x}")),
        }
    }

    fn name(&self, offset: Offset) -> Option<String> {
        let entry = self.entries.get(&offset)?;
        entry.name.clone().or_else(|| self.name(entry.origin?))
    }

    fn type_of(&self, offset: Offset) -> Option<Offset> {
        let entry = self.entries.get(&offset)?;
        entry.of.or_else(|| self.type_of(entry.origin?))
    }

    /// What a pointer points at.
    fn pointee(&self, of: Offset) -> Option<Offset> {
        let of = self.definition(of);
        let entry = &self.entries[&of];
        let is_pointer = entry.tag == dw::DW_TAG_pointer_type;
        is_pointer.then_some(self.definition(entry.of?))
    }

    /// A type without its qualifiers and other names, and where it is defined.
    fn definition(&self, of: Offset) -> Offset {
        let entry = &self.entries[&of];
        match entry.tag {
            dw::DW_TAG_typedef | dw::DW_TAG_const_type | dw::DW_TAG_volatile_type => {
                entry.of.map_or(of, |inner| self.definition(inner))
            }
            tag if is_structure(tag) => {
                let defined = entry
                    .name
                    .as_ref()
                    .and_then(|name| self.structures.get(name));
                defined
                    .filter(|_| entry.children.is_empty())
                    .copied()
                    .unwrap_or(of)
            }
            _ => of,
        }
    }
}

/// Whether a symbol's name is that of a function: the compiler may have mangled it, or have made a
/// copy of the function with an ending.
fn is_called(symbol: &str, function: &str) -> bool {
    let name = symbol.split('.').next().unwrap_or_default();
    name == function || (name.starts_with("_Z") && name.contains(function))
}

fn is_structure(tag: DwTag) -> bool {
    matches!(
        tag,
        dw::DW_TAG_structure_type | dw::DW_TAG_class_type | dw::DW_TAG_union_type
    )
}
