//! Exact decimal numbers, and their rounding.

/// What a number is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A number with digits.
    Finite,
    /// Infinite.
    Infinite,
    /// Not a number.
    Nan,
}

/// A decimal number: `0.DIGITS × 10^point`, with a sign.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decimal {
    /// Whether the sign is minus; zero may have one.
    pub negative: bool,
    /// Whether there are digits at all.
    pub kind: Kind,
    /// Digits, the first and last not zero; none for zero.
    pub digits: Vec<u8>,
    /// Power of ten that the digits after the point are multiplied by.
    pub point: i32,
}

/// How to round, in ECMA-402's words.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs, reason = "the words of the standard")]
pub enum Mode {
    Ceil,
    Floor,
    Expand,
    Trunc,
    HalfCeil,
    HalfFloor,
    #[default]
    HalfExpand,
    HalfTrunc,
    HalfEven,
}

/// Numbers with more digits than this before or after the point are cut off: text
/// may write an exponent of any size.
const MAX_EXPONENT: i64 = 100_000;

impl Decimal {
    /// Zero.
    #[must_use]
    pub const fn zero(negative: bool) -> Self {
        Self { negative, kind: Kind::Finite, digits: Vec::new(), point: 0 }
    }

    /// The shortest decimal number that reads back as the float.
    #[must_use]
    pub fn from_f64(number: f64) -> Self {
        if number.is_nan() {
            return Self { kind: Kind::Nan, ..Self::zero(false) };
        }
        if number.is_infinite() {
            return Self { kind: Kind::Infinite, ..Self::zero(number < 0.0) };
        }
        let mut decimal = Self::parse(&format!("{:e}", number.abs())).unwrap_or(Self::zero(false));
        decimal.negative = number.is_sign_negative();
        decimal
    }

    /// Digits with an optional sign, point and exponent, `Infinity` or `NaN`.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (negative, rest) = match text.strip_prefix('-') {
            Some(rest) => (true, rest),
            None => (false, text.strip_prefix('+').unwrap_or(text)),
        };
        match rest {
            "Infinity" => return Some(Self { kind: Kind::Infinite, ..Self::zero(negative) }),
            "NaN" => return Some(Self { kind: Kind::Nan, ..Self::zero(false) }),
            _ => {}
        }
        let (number, exponent) = match rest.find(['e', 'E']) {
            Some(at) => (&rest[..at], rest[at + 1..].parse::<i64>().ok()?),
            None => (rest, 0),
        };
        let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
        let digits = whole.bytes().chain(fraction.bytes());
        let digits: Vec<u8> = digits
            .map(|digit| digit.is_ascii_digit().then(|| digit - b'0'))
            .collect::<Option<_>>()?;
        if digits.is_empty() {
            return None;
        }
        let point = exponent.saturating_add(whole.len() as i64);
        let mut decimal = Self {
            negative,
            kind: Kind::Finite,
            digits,
            point: point.clamp(-MAX_EXPONENT, MAX_EXPONENT) as i32,
        };
        decimal.normalize();
        Some(decimal)
    }

    /// Whether it is a zero.
    #[must_use]
    pub fn is_zero(&self) -> bool {
        self.kind == Kind::Finite && self.digits.is_empty()
    }

    /// The power of ten of the first digit; zero has none.
    #[must_use]
    pub fn magnitude(&self) -> i32 {
        self.point - 1
    }

    /// The number times a power of ten.
    pub fn shift(&mut self, powers: i32) {
        if !self.digits.is_empty() {
            self.point += powers;
        }
    }

    /// The digit that counts `10^power`.
    #[must_use]
    pub fn digit(&self, power: i32) -> u8 {
        usize::try_from(self.point - 1 - power)
            .ok()
            .and_then(|at| self.digits.get(at))
            .copied()
            .unwrap_or(0)
    }

    /// The power of the last digit that is not zero.
    #[must_use]
    pub fn last_power(&self) -> i32 {
        self.point - self.digits.len() as i32
    }

    /// Rounds to a multiple of `increment × 10^power`.
    pub fn round(&mut self, power: i32, increment: u32, mode: Mode) {
        if self.kind != Kind::Finite || self.digits.is_empty() {
            return;
        }
        if increment > 1 {
            self.round_to_increment(power, increment, mode);
            return;
        }
        if self.last_power() >= power {
            return;
        }
        let keep = self.point - power;
        let at = usize::try_from(keep).unwrap_or(0);
        let first = if keep < 0 { 0 } else { self.digits.get(at).copied().unwrap_or(0) };
        let rest = if keep < 0 { true } else { self.digits.len() > at + 1 };
        let half = match (first, rest) {
            (5, false) => std::cmp::Ordering::Equal,
            (5.., _) => std::cmp::Ordering::Greater,
            _ => std::cmp::Ordering::Less,
        };
        let odd = at > 0 && self.digits.get(at - 1).is_some_and(|digit| digit % 2 == 1);
        self.digits.truncate(at);
        if mode.goes_up(self.negative, half, odd) {
            self.increase(power);
        }
        self.normalize();
    }

    /// Adds `10^power` to the digits, which end there.
    fn increase(&mut self, power: i32) {
        if self.point <= power {
            self.digits = vec![1];
            self.point = power + 1;
            return;
        }
        self.digits.resize((self.point - power) as usize, 0);
        for digit in self.digits.iter_mut().rev() {
            if *digit < 9 {
                *digit += 1;
                return;
            }
            *digit = 0;
        }
        self.digits.insert(0, 1);
        self.point += 1;
    }

    fn round_to_increment(&mut self, power: i32, increment: u32, mode: Mode) {
        // Long division of the digits down to `power`; what is below only decides ties.
        let (mut quotient, mut remainder) = (Vec::new(), 0_u32);
        let top = self.point.max(power);
        for at in (power..top).rev() {
            let value = remainder * 10 + u32::from(self.digit(at));
            quotient.push((value / increment) as u8);
            remainder = value % increment;
        }
        let below = self.last_power() < power;
        if remainder == 0 && !below {
            return;
        }
        let half = match (2 * remainder).cmp(&increment) {
            std::cmp::Ordering::Equal if below => std::cmp::Ordering::Greater,
            std::cmp::Ordering::Less if below && 2 * remainder + 1 == increment => {
                // Between two whole steps of an odd increment: the fraction decides.
                let first = self.digit(power - 1);
                let rest = self.last_power() < power - 1;
                match (first, rest) {
                    (5, false) => std::cmp::Ordering::Equal,
                    (5.., _) => std::cmp::Ordering::Greater,
                    _ => std::cmp::Ordering::Less,
                }
            }
            other => other,
        };
        let odd = quotient.last().is_some_and(|digit| digit % 2 == 1);
        let mut steps = Self {
            negative: false,
            kind: Kind::Finite,
            point: quotient.len() as i32,
            digits: quotient,
        };
        if mode.goes_up(self.negative, half, odd) {
            steps.increase(0);
        }
        steps.digits.resize(steps.point.max(0) as usize, 0);
        let mut carry = 0;
        for digit in steps.digits.iter_mut().rev() {
            let value = u32::from(*digit) * increment + carry;
            *digit = (value % 10) as u8;
            carry = value / 10;
        }
        while carry > 0 {
            steps.digits.insert(0, (carry % 10) as u8);
            steps.point += 1;
            carry /= 10;
        }
        self.digits = steps.digits;
        self.point = steps.point + power;
        self.normalize();
    }

    fn normalize(&mut self) {
        let zeros = self.digits.iter().take_while(|digit| **digit == 0).count();
        self.digits.drain(..zeros);
        self.point -= zeros as i32;
        while self.digits.last() == Some(&0) {
            self.digits.pop();
        }
        if self.digits.is_empty() {
            self.point = 0;
        }
    }
}

impl Mode {
    /// Whether a number rounds away from zero, by the sign, by how its rest compares
    /// to a half, and by whether the digit before is odd.
    fn goes_up(self, negative: bool, half: std::cmp::Ordering, odd: bool) -> bool {
        use std::cmp::Ordering::{Equal, Greater};
        let tie = |up: bool| half == Greater || half == Equal && up;
        match self {
            Self::Ceil => !negative,
            Self::Floor => negative,
            Self::Expand => true,
            Self::Trunc => false,
            Self::HalfCeil => tie(!negative),
            Self::HalfFloor => tie(negative),
            Self::HalfExpand => tie(true),
            Self::HalfTrunc => tie(false),
            Self::HalfEven => tie(odd),
        }
    }
}
