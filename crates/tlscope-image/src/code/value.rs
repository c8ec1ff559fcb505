//! Symbolic values: what is known of a register or stack slot at a place in the code.

use std::fmt;

/// What a path starts from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Root {
    /// The function's argument of this index.
    Argument(u8),
    /// The stack pointer at the start of the walk.
    Stack,
    /// A register that calls preserve, at the start of the walk.
    Register(u8),
    /// What the call at this address returned.
    Call(u64),
    /// The address 0 of the image: `[a]` with one step is what stands at `a`.
    Image,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, Default, PartialOrd, Ord)]
pub(crate) enum Value {
    #[default]
    Unknown,
    Const(u64),
    Path(Path),
}

/// `*(*(root + loads[0]) + loads[1]) + add`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Path {
    pub(crate) root: Root,
    pub(crate) loads: Vec<i64>,
    pub(crate) add: i64,
}

/// Longer chains of loads than this are no layout.
const DEEPEST: usize = 6;

impl Value {
    pub(crate) fn root(root: Root) -> Self {
        Self::Path(Path {
            root,
            loads: Vec::new(),
            add: 0,
        })
    }

    pub(crate) fn plus(&self, bytes: i64) -> Self {
        match self {
            Self::Unknown => Self::Unknown,
            Self::Const(value) => Self::Const(value.wrapping_add_signed(bytes)),
            Self::Path(path) => path.add.checked_add(bytes).map_or(Self::Unknown, |add| {
                Self::Path(Path {
                    add,
                    ..path.clone()
                })
            }),
        }
    }

    /// What stands in memory where this value points.
    pub(crate) fn loaded(&self) -> Self {
        match self {
            Self::Unknown => Self::Unknown,
            Self::Const(address) => Self::Path(Path {
                root: Root::Image,
                loads: vec![address.cast_signed()],
                add: 0,
            }),
            Self::Path(path) if path.loads.len() >= DEEPEST => Self::Unknown,
            Self::Path(path) => {
                let mut loads = path.loads.clone();
                loads.push(path.add);
                Self::Path(Path {
                    root: path.root,
                    loads,
                    add: 0,
                })
            }
        }
    }

    pub(crate) fn path(&self) -> Option<&Path> {
        match self {
            Self::Path(path) => Some(path),
            _ => None,
        }
    }
}

impl Path {
    /// Where this value was loaded from, if it is a loaded value and nothing was added to it.
    pub(crate) fn loaded_from(&self) -> Option<Self> {
        let (last, rest) = self.loads.split_last()?;
        (self.add == 0).then(|| Self {
            root: self.root,
            loads: rest.to_vec(),
            add: *last,
        })
    }

    /// All offsets of the walk, the last one added only; `None` if one is no field offset.
    pub(crate) fn offsets(&self) -> Option<Vec<u32>> {
        // No structure of these libraries comes near; a larger number is no offset.
        const LARGEST: u32 = 0x10_0000;
        self.loads
            .iter()
            .chain(std::iter::once(&self.add))
            .map(|offset| {
                u32::try_from(*offset)
                    .ok()
                    .filter(|offset| *offset < LARGEST)
            })
            .collect()
    }
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let root = match self.root {
            Root::Argument(index) => format!("arg{index}"),
            Root::Stack => "sp".to_owned(),
            Root::Register(number) => format!("r{number}"),
            Root::Call(at) => format!("result@{at:#x}"),
            Root::Image => "image".to_owned(),
        };
        let place = self.loads.iter().fold(root, |place, offset| {
            format!("*({place}{})", signed(*offset))
        });
        write!(f, "{place}{}", signed(self.add))
    }
}

fn signed(offset: i64) -> String {
    match offset {
        0 => String::new(),
        ..0 => format!(" - {:#x}", offset.unsigned_abs()),
        _ => format!(" + {offset:#x}"),
    }
}
