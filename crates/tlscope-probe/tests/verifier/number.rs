//! What the verifier knows of a number: bits and bounds, by the rules of kernel 4.19.

use crate::opcode::{
    ADD, AND, ARSH, JEQ, JGE, JGT, JLE, JLT, JNE, JSGE, JSGT, JSLE, JSLT, LSH, MUL, OR, RSH, SUB,
};

/// Bits that are known, and those that are not (`struct tnum`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Bits {
    value: u64,
    unknown: u64,
}

impl Bits {
    const ANY: Self = Self {
        value: 0,
        unknown: u64::MAX,
    };

    const fn known(value: u64) -> Self {
        Self { value, unknown: 0 }
    }

    fn new(value: u64, unknown: u64) -> Self {
        let value = value & !unknown;
        Self { value, unknown }
    }

    fn add(self, other: Self) -> Self {
        let value = self.value.wrapping_add(other.value);
        let unknown = self.unknown.wrapping_add(other.unknown);
        let carried = value.wrapping_add(unknown) ^ value;
        Self::new(value, carried | self.unknown | other.unknown)
    }

    fn sub(self, other: Self) -> Self {
        let value = self.value.wrapping_sub(other.value);
        let most = value.wrapping_add(self.unknown);
        let least = value.wrapping_sub(other.unknown);
        Self::new(value, most ^ least | self.unknown | other.unknown)
    }

    fn and(self, other: Self) -> Self {
        let possible = (self.value | self.unknown) & (other.value | other.unknown);
        let value = self.value & other.value;
        Self::new(value, possible & !value)
    }

    fn or(self, other: Self) -> Self {
        let value = self.value | other.value;
        let unknown = (self.unknown | other.unknown) & !value;
        Self { value, unknown }
    }

    fn both(self, by: impl Fn(u64) -> u64) -> Self {
        Self {
            value: by(self.value),
            unknown: by(self.unknown),
        }
    }

    fn of_range(least: u64, most: u64) -> Self {
        match (least ^ most).leading_zeros() {
            0 => Self::ANY,
            zeros => Self::new(least, u64::MAX.checked_shr(zeros).unwrap_or(0)),
        }
    }

    fn intersection(self, other: Self) -> Self {
        Self::new(self.value | other.value, self.unknown & other.unknown)
    }

    fn holds(self, other: Self) -> bool {
        other.unknown & !self.unknown == 0 && self.value == other.value & !self.unknown
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Number {
    bits: Bits,
    pub(crate) smin: i64,
    pub(crate) smax: i64,
    pub(crate) umin: u64,
    pub(crate) umax: u64,
}

impl Number {
    pub(crate) const ANY: Self = Self {
        bits: Bits::ANY,
        smin: i64::MIN,
        smax: i64::MAX,
        umin: 0,
        umax: u64::MAX,
    };

    pub(crate) const fn known(value: u64) -> Self {
        Self {
            bits: Bits::known(value),
            smin: value.cast_signed(),
            smax: value.cast_signed(),
            umin: value,
            umax: value,
        }
    }

    pub(crate) fn value(&self) -> Option<u64> {
        (self.bits.unknown == 0).then_some(self.bits.value)
    }

    /// Known of a branch that is never taken: what is computed with it may be anything.
    pub(crate) fn is_impossible(&self) -> bool {
        let differ = self.smin != self.smax || self.umin != self.umax;
        (self.value().is_some() && differ) || self.smin > self.smax || self.umin > self.umax
    }

    pub(crate) fn holds(&self, other: &Self) -> bool {
        let unsigned = self.umin <= other.umin && self.umax >= other.umax;
        let signed = self.smin <= other.smin && self.smax >= other.smax;
        unsigned && signed && self.bits.holds(other.bits)
    }

    /// `__update_reg_bounds`
    fn learn_from_bits(&mut self) {
        const SIGN: u64 = 1 << 63;
        let Bits { value, unknown } = self.bits;
        self.smin = self.smin.max((value | unknown & SIGN).cast_signed());
        self.smax = self.smax.min((value | unknown & !SIGN).cast_signed());
        self.umin = self.umin.max(value);
        self.umax = self.umax.min(value | unknown);
    }

    /// `__reg_deduce_bounds` and `__reg_bound_offset`
    fn learn_from_bounds(&mut self) {
        let [smin, smax] = [self.smin, self.smax].map(i64::cast_unsigned);
        if self.smin >= 0 || self.smax < 0 {
            self.umin = smin.max(self.umin);
            self.umax = smax.min(self.umax);
            self.smin = self.umin.cast_signed();
            self.smax = self.umax.cast_signed();
        } else if self.umax.cast_signed() >= 0 {
            self.smin = self.umin.cast_signed();
            self.umax = smax.min(self.umax);
            self.smax = self.umax.cast_signed();
        } else if self.umin.cast_signed() < 0 {
            self.umin = smin.max(self.umin);
            self.smin = self.umin.cast_signed();
            self.smax = self.umax.cast_signed();
        }
        self.bits = self.bits.intersection(Bits::of_range(self.umin, self.umax));
    }

    fn unbounded(self) -> Self {
        Self {
            bits: self.bits,
            ..Self::ANY
        }
    }

    /// The lower bytes, without sign.
    pub(crate) fn cut(mut self, bytes: u32) -> Self {
        let kept = u64::MAX >> (64 - 8 * bytes);
        self.bits = self.bits.both(|word| word & kept);
        if self.umin & !kept == self.umax & !kept {
            self.umin &= kept;
            self.umax &= kept;
        } else {
            (self.umin, self.umax) = (0, kept);
        }
        self.smin = self.umin.cast_signed();
        self.smax = self.umax.cast_signed();
        self
    }

    pub(crate) fn plus(mut self, other: &Self) -> Self {
        let low = self.smin.checked_add(other.smin);
        let high = self.smax.checked_add(other.smax);
        (self.smin, self.smax) = low.zip(high).unwrap_or((i64::MIN, i64::MAX));
        (self.umin, self.umax) = match self.umax.checked_add(other.umax) {
            Some(most) => (self.umin + other.umin, most),
            None => (0, u64::MAX),
        };
        self.bits = self.bits.add(other.bits);
        self
    }

    pub(crate) fn minus(mut self, other: &Self) -> Self {
        let low = self.smin.checked_sub(other.smax);
        let high = self.smax.checked_sub(other.smin);
        (self.smin, self.smax) = low.zip(high).unwrap_or((i64::MIN, i64::MAX));
        (self.umin, self.umax) = match self.umin.checked_sub(other.umax) {
            Some(least) => (least, self.umax - other.umin),
            None => (0, u64::MAX),
        };
        self.bits = self.bits.sub(other.bits);
        self
    }

    pub(crate) fn settled(mut self) -> Self {
        self.learn_from_bits();
        self.learn_from_bounds();
        self
    }

    fn masked(mut self, bits: Bits, least: u64, most: u64, other: &Self) -> Self {
        let positive = self.smin >= 0 && other.smin >= 0;
        (self.bits, self.umin, self.umax) = (bits, least, most);
        (self.smin, self.smax) = if positive {
            (least.cast_signed(), most.cast_signed())
        } else {
            (i64::MIN, i64::MAX)
        };
        self
    }

    fn multiplied(self, by: u64) -> Self {
        const MOST: u64 = u32::MAX as u64;
        if let Some(value) = self.value() {
            return Self::known(value.wrapping_mul(by));
        }
        if self.smin < 0 || self.umax > MOST || by > MOST {
            return Self::ANY;
        }
        let (umin, umax) = (self.umin * by, self.umax * by);
        Self {
            umin,
            umax,
            ..Self::ANY
        }
    }

    fn shifted_left(self, by: u32) -> Self {
        let fits = self.umax <= 1 << (63 - by);
        let bits = self.bits.both(|word| word << by);
        let (umin, umax) = if fits {
            (self.umin << by, self.umax << by)
        } else {
            (0, u64::MAX)
        };
        Self {
            umin,
            umax,
            ..Self { bits, ..self }.unbounded()
        }
    }

    fn shifted_right(self, by: u32) -> Self {
        Self {
            bits: self.bits.both(|word| word >> by),
            umin: self.umin >> by,
            umax: self.umax >> by,
            ..Self::ANY
        }
    }

    fn shifted_right_with_sign(self, by: u32) -> Self {
        let shift = |word: u64| (word.cast_signed() >> by).cast_unsigned();
        Self {
            bits: self.bits.both(shift),
            smin: self.smin >> by,
            smax: self.smax >> by,
            ..Self::ANY
        }
    }

    /// `adjust_scalar_min_max_vals`, by the operation's bits.
    pub(crate) fn computed(self, operation: u8, other: &Self, wide: bool) -> Self {
        const WITH_UNKNOWN: [u8; 3] = [ADD, SUB, AND];
        if other.is_impossible() {
            return Self::ANY;
        }
        let known = other.value();
        if known.is_none() && !WITH_UNKNOWN.contains(&operation) {
            return Self::ANY;
        }
        let by = known.unwrap_or_default();
        let width = if wide { 64 } else { 32 };
        if [LSH, RSH, ARSH].contains(&operation) && by >= width {
            return Self::ANY;
        }
        let result = match (operation, self.value(), known) {
            (ADD, ..) => self.plus(other),
            (SUB, ..) => self.minus(other),
            (MUL, ..) => self.multiplied(by),
            (AND, Some(one), Some(two)) => Self::known(one & two),
            (AND, ..) => {
                let bits = self.bits.and(other.bits);
                self.masked(bits, bits.value, self.umax.min(other.umax), other)
            }
            (OR, Some(one), Some(two)) => Self::known(one | two),
            (OR, ..) => {
                let bits = self.bits.or(other.bits);
                let most = bits.value | bits.unknown;
                self.masked(bits, self.umin.max(other.umin), most, other)
            }
            (LSH, ..) => self.shifted_left(by as u32),
            (RSH, ..) => self.shifted_right(by as u32),
            (ARSH, ..) => self.shifted_right_with_sign(by as u32),
            _ => return Self::ANY,
        };
        let mut result = if wide { result } else { result.cut(4) };
        if ![ADD, SUB, MUL].contains(&operation) {
            result.learn_from_bits();
        }
        result.learn_from_bounds();
        result
    }

    /// What is known where a comparison with a value holds, and where not.
    pub(crate) fn compared(self, comparison: u8, with: u64) -> [Self; 2] {
        let (mut holds, mut not) = (self, self);
        let signed = with.cast_signed();
        match comparison {
            JEQ => holds = Self::known(with),
            JNE => not = Self::known(with),
            JGT => {
                holds.umin = holds.umin.max(with.wrapping_add(1));
                not.umax = not.umax.min(with);
            }
            JGE => {
                holds.umin = holds.umin.max(with);
                not.umax = not.umax.min(with.wrapping_sub(1));
            }
            JLT => {
                holds.umax = holds.umax.min(with.wrapping_sub(1));
                not.umin = not.umin.max(with);
            }
            JLE => {
                holds.umax = holds.umax.min(with);
                not.umin = not.umin.max(with.wrapping_add(1));
            }
            JSGT => {
                holds.smin = holds.smin.max(signed.wrapping_add(1));
                not.smax = not.smax.min(signed);
            }
            JSGE => {
                holds.smin = holds.smin.max(signed);
                not.smax = not.smax.min(signed.wrapping_sub(1));
            }
            JSLT => {
                holds.smax = holds.smax.min(signed.wrapping_sub(1));
                not.smin = not.smin.max(signed);
            }
            JSLE => {
                holds.smax = holds.smax.min(signed);
                not.smin = not.smin.max(signed.wrapping_add(1));
            }
            _ => return [self, self],
        }
        [holds.settled(), not.settled()]
    }

    /// What is known of either of two that are equal.
    pub(crate) fn equal_to(self, other: &Self) -> Self {
        let mut both = Self {
            bits: self.bits.intersection(other.bits),
            smin: self.smin.max(other.smin),
            smax: self.smax.min(other.smax),
            umin: self.umin.max(other.umin),
            umax: self.umax.min(other.umax),
        };
        both.learn_from_bits();
        both.settled()
    }
}
