//! The functions to probe, and the convention that they are called by.

use std::collections::BTreeMap;

use super::goroutine::goroutine_of;
use crate::code;
use crate::elf::{Elf, GoFunction, Pclntab};
use crate::plan::{GoAbi, GoKeyLogForm, Goroutine, Missing, Probe, Role};

/// The end of the name of what every secret passes through.
pub(super) const KEY_LOG: &str = ".(*Config).writeKeyLog";
const WRITE: &str = ".(*Conn).Write";
const READ: &str = ".(*Conn).Read";

/// The functions of every package of an image that is made like crypto/tls.
pub(super) struct Functions<'d> {
    implementations: Vec<Implementation<'d>>,
}

/// One package: `crypto/tls`, or a fork of it.
pub(super) struct Implementation<'d> {
    pub(super) package: &'d str,
    write: Option<GoFunction<'d>>,
    read: Option<GoFunction<'d>>,
    key_log: Option<GoFunction<'d>>,
}

/// What all functions of an image have in common.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Conventions {
    pub(super) abi: GoAbi,
    pub(super) goroutine: Goroutine,
    pub(super) key_log: GoKeyLogForm,
}

const STANDARD: &str = "crypto/tls";

impl<'d> Functions<'d> {
    pub(super) fn of(elf: &Elf<'_>, table: &Pclntab<'d>) -> Self {
        // A program may link two or three forks; hundreds are hostile.
        const MOST: usize = 8;
        let mut packages: BTreeMap<&'d str, Implementation<'d>> = BTreeMap::new();
        for function in table.ending_in(elf, &[KEY_LOG, WRITE, READ]) {
            let ending = [KEY_LOG, WRITE, READ]
                .into_iter()
                .find_map(|ending| Some((ending, function.name.strip_suffix(ending)?)));
            let Some((ending, package)) = ending else {
                continue;
            };
            let found = packages.entry(package).or_insert(Implementation {
                package,
                write: None,
                read: None,
                key_log: None,
            });
            match ending {
                KEY_LOG => found.key_log = Some(function),
                WRITE => found.write = Some(function),
                _ => found.read = Some(function),
            }
        }
        // Other packages have a type `Conn` too: a fork is what also has the key log. Of
        // crypto/tls itself a part is enough to say what the rest is missing for.
        let mut implementations: Vec<_> = packages
            .into_values()
            .filter(|found| found.package == STANDARD || found.key_log.is_some())
            .collect();
        // crypto/tls first: it is what others are compared with.
        implementations.sort_by_key(|found| found.package != STANDARD);
        implementations.truncate(MOST);
        Self { implementations }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.implementations.is_empty()
    }

    pub(super) fn implementations(&self) -> &[Implementation<'d>] {
        &self.implementations
    }
}

impl Implementation<'_> {
    /// The probes of what is there, the convention they are called by, and what is not there.
    pub(super) fn probes(
        &self,
        elf: &Elf<'_>,
        table: &Pclntab<'_>,
    ) -> (Vec<Probe>, Option<Conventions>, Vec<Missing>) {
        let mut missing = Vec::new();
        let mut lacks = |name: &str, why: String| {
            missing.push(Missing {
                what: format!("`{}{name}`", self.package),
                why,
            });
        };
        let conventions = match self.conventions(elf) {
            Ok(conventions) => conventions,
            Err(why) => {
                lacks("", why);
                return (Vec::new(), None, missing);
            }
        };
        let mut probes = Vec::new();
        for (role, name, function) in [
            (Role::GoWrite, WRITE, &self.write),
            (Role::GoRead, READ, &self.read),
            (Role::GoKeyLog, KEY_LOG, &self.key_log),
        ] {
            let found = match function {
                Some(function) => probe(elf, table, role, function),
                None if table.mentions(&format!("{}{name}", self.package)) => {
                    Err("the compiler merged it into its callers".into())
                }
                None => Err("the linker left it out: nothing in the program calls it".into()),
            };
            match found {
                Ok(probe) => probes.push(probe),
                Err(why) => lacks(name, why),
            }
        }
        (probes, Some(conventions), missing)
    }

    /// The table and the code must agree on the convention.
    fn conventions(&self, elf: &Elf<'_>) -> Result<Conventions, String> {
        let data = self.write.as_ref().or(self.read.as_ref());
        let any = data.or(self.key_log.as_ref()).ok_or("it has no function")?;
        let abi = match (data, &self.key_log) {
            (Some(data), _) => abi_of_data(data)?,
            (None, Some(key_log)) => abi_of_key_log(key_log)?,
            (None, None) => return Err("it has no function".into()),
        };
        let goroutine = goroutine_of(elf, any.code.start).ok_or_else(|| {
            format!(
                "how `{}` begins at {} does not tell where its goroutine is",
                any.name, any.code.start
            )
        })?;
        let is_register = goroutine == Goroutine::Register;
        if elf.arch == crate::plan::Arch::X86_64 && is_register != (abi == GoAbi::Register) {
            return Err(format!(
                "its function table tells of arguments in {abi:?} form, and `{}` has {goroutine:?}",
                any.name
            ));
        }
        let key_log = match &self.key_log {
            Some(function) => key_log_form(function, abi)?,
            None => GoKeyLogForm::Labelled,
        };
        Ok(Conventions {
            abi,
            goroutine,
            key_log,
        })
    }
}

/// What the table counts of a function with `words` of arguments and `results`: in the register
/// ABI room to spill the arguments to; in the stack ABI both.
const fn bytes(words: u32, results: u32) -> (u32, u32) {
    (words * 8, (words + results) * 8)
}

/// A receiver, a slice; an `int` and an `error`.
const DATA: (u32, u32) = bytes(1 + 3, 1 + 2);
/// A receiver, a string, two slices; an `error`.
const LABELLED: (u32, u32) = bytes(1 + 2 + 3 + 3, 2);
/// A receiver, two slices; an `error`.
const MASTER_SECRET: (u32, u32) = bytes(1 + 3 + 3, 2);

fn abi_of_data(function: &GoFunction<'_>) -> Result<GoAbi, String> {
    abi_by(function, &[DATA])
}

fn abi_of_key_log(function: &GoFunction<'_>) -> Result<GoAbi, String> {
    // 72 bytes are both: the older form is older than the register ABI, but this says not which.
    abi_by(function, &[LABELLED])
}

fn abi_by(function: &GoFunction<'_>, forms: &[(u32, u32)]) -> Result<GoAbi, String> {
    let fits = |abi: GoAbi| {
        forms.iter().any(|(register, stack)| {
            function.arguments
                == match abi {
                    GoAbi::Register => *register,
                    GoAbi::Stack => *stack,
                }
        })
    };
    [GoAbi::Register, GoAbi::Stack]
        .into_iter()
        .find(|abi| fits(*abi))
        .ok_or_else(|| unexpected(function))
}

fn key_log_form(function: &GoFunction<'_>, abi: GoAbi) -> Result<GoKeyLogForm, String> {
    let of = |(register, stack): (u32, u32)| match abi {
        GoAbi::Register => register,
        GoAbi::Stack => stack,
    };
    match function.arguments {
        bytes if bytes == of(LABELLED) => Ok(GoKeyLogForm::Labelled),
        bytes if bytes == of(MASTER_SECRET) => Ok(GoKeyLogForm::MasterSecret),
        _ => Err(unexpected(function)),
    }
}

fn unexpected(function: &GoFunction<'_>) -> String {
    format!(
        "the arguments of `{}` take {} bytes, which fits no form of it that is known",
        function.name, function.arguments
    )
}

fn probe(
    elf: &Elf<'_>,
    table: &Pclntab<'_>,
    role: Role,
    function: &GoFunction<'_>,
) -> Result<Probe, String> {
    let start = function.code.start;
    let offset = elf
        .file_offset(start)
        .ok_or_else(|| format!("it should be at {start}, where the file holds no code"))?;
    let returns = if role.is_data() {
        returns(elf, function)?
    } else {
        Vec::new()
    };
    Ok(Probe {
        role,
        symbol: Some(function.name.to_owned()),
        address: start,
        offset,
        returns,
        evidence: format!(
            "named in Go's function table at {}, {} bytes of arguments",
            table.address, function.arguments
        ),
    })
}

fn returns(
    elf: &Elf<'_>,
    function: &GoFunction<'_>,
) -> Result<Vec<crate::elf::FileOffset>, String> {
    let places = code::returns_of(elf, &function.code)
        .ok_or("its code is not understood to its end, so where it returns is not known")?;
    let offsets: Option<Vec<_>> = places.iter().map(|at| elf.file_offset(*at)).collect();
    offsets
        .filter(|offsets| !offsets.is_empty())
        .ok_or_else(|| "it never returns".into())
}
