use super::chain::CHAIN;
use super::*;

fn numbers(count: usize, salt: usize) -> Vec<f32> {
    let wave = |at: usize| ((at * 37 + salt * 11) as f32 * 0.61).sin();
    (0..count).map(wave).collect()
}

fn transposed_of(numbers: &[f32], columns: usize) -> Vec<f32> {
    let rows = numbers.len() / columns.max(1);
    (0..numbers.len())
        .map(|at| numbers[at % rows * columns + at / rows])
        .collect()
}

/// To the nearest number whose lower 16 bits are zero, the even one of two.
fn rounded(number: f32) -> f64 {
    let below = f32::from_bits(number.to_bits() & 0xffff_0000);
    let above = f32::from_bits((number.to_bits() & 0xffff_0000) + 0x1_0000);
    let distance = |to: f32| (f64::from(to) - f64::from(number)).abs();
    let is_even = below.to_bits() & 0x1_0000 == 0;
    let takes_below =
        distance(below) < distance(above) || (distance(below) == distance(above) && is_even);
    f64::from(if takes_below { below } else { above })
}

/// Products of rounded numbers are exact in f64; the twin is their sum, and the sum of sizes.
fn twin(left: &[f32], right: &[f32], inner: usize, columns: usize) -> Vec<(f64, f64)> {
    let rows = left.len() / inner;
    let of = |at: usize| {
        let (row, column) = (at / columns, at % columns);
        let terms = (0..inner).map(|term| {
            rounded(left[row * inner + term]) * rounded(right[term * columns + column])
        });
        terms.fold((0.0, 0.0), |(sum, size), term: f64| {
            (sum + term, size + term.abs())
        })
    };
    (0..rows * columns).map(of).collect()
}

/// Rows, terms, columns: one, odd, prime, whole tiles, and one past them and past a chain.
const SHAPES: [[usize; 3]; 14] = [
    [1, 1, 1],
    [1, 2, 16],
    [3, 5, 2],
    [1, 257, 131],
    [7, 31, 17],
    [8, 64, 48],
    [9, 65, 49],
    [17, 130, 33],
    [13, 33, 193],
    [8, 512, 192],
    [11, 513, 97],
    [40, 700, 19],
    [2, 1100, 400],
    [131, 127, 113],
];

#[test]
fn agrees_with_sums_of_rounded_numbers() {
    for [rows, inner, columns] in SHAPES {
        let (left, right) = (numbers(rows * inner, 1), numbers(inner * columns, 2));
        let (left_by_columns, right_by_columns) =
            (transposed_of(&left, inner), transposed_of(&right, columns));
        let expected = twin(&left, &right, inner, columns);
        let lefts = [
            Matrix::new(&left, inner),
            Matrix::new(&left_by_columns, rows).transposed(),
        ];
        let rights = [
            Matrix::new(&right, columns),
            Matrix::new(&right_by_columns, inner).transposed(),
        ];
        for (left, right) in lefts
            .iter()
            .flat_map(|l| rights.iter().map(move |r| (*l, *r)))
        {
            for change in [Change::Set, Change::Add, Change::Subtract] {
                let (before, sign) = match change {
                    Change::Set => (f32::NAN, 1.0),
                    Change::Add => (1.0, 1.0),
                    Change::Subtract => (1.0, -1.0),
                };
                let mut output = vec![before; rows * columns];
                product(left, right, &mut output, change);
                if inner <= CHAIN {
                    let mut shared = vec![before; rows * columns];
                    RightFactor::new(right).multiplied(left, &mut shared, change);
                    assert!(shared == output, "shared: {rows} x {inner} x {columns}");
                }
                for (found, (sum, size)) in output.iter().zip(&expected) {
                    let start = if change == Change::Set { 0.0 } else { 1.0 };
                    let error = (f64::from(*found) - (start + sign * sum)).abs();
                    // f32 sums; unrounded or truncated operands would be 1e-3 away.
                    assert!(
                        error <= 1e-6 * (size + start),
                        "{rows} x {inner} x {columns}, {change:?}: {error:e}"
                    );
                }
            }
        }
    }
}

#[test]
fn columns_of_a_wider_matrix_are_taken_where_they_are() {
    let (wide, right) = (numbers(37 * 50, 1), numbers(37 * 21, 2));
    let part = Matrix::new(&wide, 50).columns(11, 23);
    let copied: Vec<f32> = (wide.chunks(50).flat_map(|row| &row[11..34]).copied()).collect();
    let of = |left: Matrix<'_>| {
        let mut output = vec![f32::NAN; 23 * 21];
        product(
            left.transposed(),
            Matrix::new(&right, 21),
            &mut output,
            Change::Set,
        );
        output
    };
    assert_eq!(of(part), of(Matrix::new(&copied, 23)));
}

#[test]
fn a_row_does_not_depend_on_the_rows_beside_it() {
    for inner in [1, 2, 3, 64, 511, 513, 1100] {
        for columns in [1, 7, 16, 49, 200] {
            let (left, right) = (numbers(70 * inner, 3), numbers(inner * columns, 4));
            let of = |first: usize, rows: usize| {
                let left = &left[first * inner..][..rows * inner];
                let mut output = vec![f32::NAN; rows * columns];
                let right = Matrix::new(&right, columns);
                product(Matrix::new(left, inner), right, &mut output, Change::Set);
                output
            };
            let all = of(0, 70);
            for (first, rows) in [(0, 1), (69, 1), (3, 2), (5, 8), (1, 31), (6, 64)] {
                let expected = &all[first * columns..][..rows * columns];
                assert!(
                    of(first, rows) == expected,
                    "{rows} rows of {inner} into {columns}"
                );
            }
        }
    }
}

#[test]
fn no_rows_no_columns_and_no_terms_are_no_work() {
    let some = numbers(12, 1);
    let nothing = Matrix::new(&[], 3);
    product(nothing, Matrix::new(&some, 4), &mut [], Change::Set);
    product(
        Matrix::new(&some, 3),
        Matrix::new(&[], 3).transposed(),
        &mut [],
        Change::Add,
    );
    for (change, after) in [
        (Change::Set, 0.0),
        (Change::Add, 2.0),
        (Change::Subtract, 2.0),
    ] {
        let mut output = [2.0; 9];
        product(nothing.transposed(), nothing, &mut output, change);
        assert_eq!(output, [after; 9]);
        let mut output = [2.0; 9];
        RightFactor::new(nothing).multiplied(nothing.transposed(), &mut output, change);
        assert_eq!(output, [after; 9]);
    }
}

#[test]
fn what_is_not_finite_is_not_hidden() {
    // The largest number of f32 is rounded to infinity.
    for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, f32::MAX] {
        for at in 0..5 {
            let mut left = [1.0; 5];
            left[at] = bad;
            let right = [1.0; 5 * 3];
            let mut output = [0.0; 3];
            let right = Matrix::new(&right, 3);
            product(Matrix::new(&left, 5), right, &mut output, Change::Set);
            assert!(output.iter().all(|number| !number.is_finite()), "{bad}");
        }
    }
}

/// Numbers of every size, zeros of both signs, numbers that are not normal, and what is not finite.
#[cfg(target_arch = "x86_64")]
fn extremes(count: usize, salt: u64) -> Vec<f32> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64 ^ salt;
    let mut word = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state >> 16
    };
    let mut number = || match word() % 8 {
        0 => [0.0, -0.0, 1e-40, -1e-40][word() as usize % 4],
        1 => [f32::MAX, f32::MIN_POSITIVE, 1.0, -1.0][word() as usize % 4],
        2 => f32::from_bits(word() as u32 & 0x80ff_ffff),
        3 => f32::from_bits(word() as u32 & 0x807f_ffff | (60 + word() as u32 % 8) << 23),
        4 if word() % 64 == 0 => [f32::NAN, f32::INFINITY][word() as usize % 2],
        _ => f32::from_bits(word() as u32 & 0x807f_ffff | (120 + word() as u32 % 9) << 23),
    };
    (0..count).map(|_| number()).collect()
}

#[cfg(target_arch = "x86_64")]
#[test]
fn loops_make_the_bits_of_the_instructions() {
    if !is_native() {
        println!("skipped: this machine has no AVX512-BF16");
        return;
    }
    let bits = |numbers: &[f32]| -> Vec<u32> {
        let of = |number: &f32| if number.is_nan() { f32::NAN } else { *number };
        numbers.iter().map(|number| of(number).to_bits()).collect()
    };
    for [rows, inner, columns] in SHAPES {
        for round in 0..4 {
            let of = |count: usize, salt: usize| match round {
                0 => numbers(count, salt),
                _ => extremes(count, (salt + 8 * round) as u64),
            };
            // In the last round one factor is ordinary and the other is not.
            let left = of(rows * inner, 1);
            let right = match round {
                3 => numbers(inner * columns, 2),
                _ => of(inner * columns, 2),
            };
            let (left_by_columns, right_by_columns) =
                (transposed_of(&left, inner), transposed_of(&right, columns));
            let lefts = [
                Matrix::new(&left, inner),
                Matrix::new(&left_by_columns, rows).transposed(),
            ];
            let rights = [
                Matrix::new(&right, columns),
                Matrix::new(&right_by_columns, inner).transposed(),
            ];
            for (left, right) in lefts
                .iter()
                .flat_map(|l| rights.iter().map(move |r| (*l, *r)))
            {
                for change in [Change::Set, Change::Add, Change::Subtract] {
                    let before = numbers(rows * columns, 3);
                    let [mut by_instructions, mut by_loops] = [before.clone(), before.clone()];
                    native::product(left, right, &mut by_instructions, change);
                    portable::product(left, right, &mut by_loops, change);
                    assert!(
                        bits(&by_instructions) == bits(&by_loops),
                        "{rows} x {inner} x {columns}, {change:?}, round {round}"
                    );
                    if inner <= CHAIN {
                        let mut shared = before;
                        let right = portable::RightFactor::new(right);
                        right.multiplied(left, &mut shared, change);
                        assert!(bits(&shared) == bits(&by_loops));
                    }
                }
            }
        }
    }
}

#[cfg(target_arch = "x86_64")]
#[test]
fn a_screen_finds_what_is_large_and_says_how_far_it_may_be_off() {
    if !is_native() {
        println!("skipped: this machine has no AVX512-BF16");
        return;
    }
    for [rows, terms, columns] in [[1, 1, 1], [9, 7, 33], [17, 64, 401], [3, 512, 250]] {
        let (left, right) = (numbers(rows * terms, 5), numbers(terms * columns, 6));
        let screen = Screen::new(&right, columns).expect("instructions and ordinary numbers");
        let mut rounded = vec![f32::NAN; rows * columns];
        let (l, r) = (Matrix::new(&left, terms), Matrix::new(&right, columns));
        product(l, r, &mut rounded, Change::Set);
        let thresholds: Vec<f32> = (0..rows).map(|row| 0.1 * row as f32).collect();
        let mut found = Found::default();
        screen.find(&left, &thresholds, &mut found);
        let all: Vec<u32> = (0..columns as u32).collect();
        let mut exact = Vec::new();
        for (row, left) in left.chunks_exact(terms).enumerate() {
            let rounded = &rounded[row * columns..][..columns];
            let large = |column: &u32| rounded[*column as usize] >= thresholds[row];
            let expected: Vec<u32> = all.iter().copied().filter(large).collect();
            assert!(
                found.of(row) == Some(&expected),
                "{rows} x {terms} x {columns}"
            );

            let error = screen.error(left).expect("an ordinary row");
            screen.exact(left, &all, &mut exact);
            for (column, (exact, rounded)) in exact.iter().zip(rounded).enumerate() {
                let chain = (0..terms).fold(0.0_f32, |sum, term| {
                    left[term].mul_add(right[term * columns + column], sum)
                });
                assert_eq!(exact.to_bits(), chain.to_bits());
                assert!((exact - rounded).abs() <= error, "{error}");
            }
        }
    }
    // As far off as it gets: every operand halfway between two numbers, all in one direction.
    let halfway = 1.0 + 1.0 / 256.0;
    let screen = Screen::new(&[halfway; 64], 1).expect("ordinary numbers");
    let row = [halfway; 64];
    let mut rounded = [0.0];
    let (l, r) = (Matrix::new(&row, 64), Matrix::new(&row, 1));
    product(l, r, &mut rounded, Change::Set);
    let off = (64.0 * halfway * halfway - rounded[0]).abs();
    let error = screen.error(&row).expect("an ordinary row");
    assert!(off <= error && error < 1.1 * off, "{off} {error}");
}

#[cfg(target_arch = "x86_64")]
#[test]
fn too_many_columns_and_what_has_no_bound_are_not_screened() {
    if !is_native() {
        println!("skipped: this machine has no AVX512-BF16");
        return;
    }
    let screen = Screen::new(&[1.0; 2 * 600], 600).expect("ordinary numbers");
    let mut found = Found::default();
    screen.find(&[1.0; 4], &[1.0, 5.0], &mut found);
    assert!(found.of(0).is_none() && found.of(1) == Some(&[]));
    for bad in [0.0, 1e-20, 1e20, f32::NAN, f32::INFINITY] {
        assert!(screen.error(&[bad, bad]).is_none(), "{bad}");
        assert!(Screen::new(&[bad; 2 * 600], 600).is_none(), "{bad}");
    }
    assert!(Screen::new(&[1.0; 513], 1).is_none());
}
