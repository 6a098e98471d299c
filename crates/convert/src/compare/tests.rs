use transload_block::Memory;

use super::*;

fn run(a: &[u8], b: &[u8], strict: bool) -> Comparison {
    let (a, b) = (Memory::from(a.to_vec()), Memory::from(b.to_vec()));
    compare(&a, &b, strict, &ScanSettings::default()).unwrap()
}

#[test]
fn the_first_difference_is_the_lowest() {
    let a = vec![7; 9 << 20];
    for places in [vec![0], vec![9 << 20, (9 << 20) - 1], vec![5 << 20, 1 << 20, 3], vec![(2 << 20) - 1, 2 << 20]] {
        let mut b = a.clone();
        for place in &places {
            if let Some(byte) = b.get_mut(*place) {
                *byte = 8;
            }
        }
        let first = places.iter().filter(|place| **place < a.len()).min().map(|place| *place as u64);
        let found = run(&a, &b, false);
        assert!(!found.identical);
        assert_eq!(found.first_difference, first);
        assert_eq!(found.difference, Some(Difference::Content));
    }
    assert!(run(&a, &a, true).identical);
}

#[test]
fn what_a_longer_disk_has_more_must_be_zero() {
    let (mut a, b) = (vec![1; 3000], vec![1; 1000]);
    a[1000..].fill(0);
    let found = run(&a, &b, false);
    assert!(found.identical && found.size_differs);
    assert_eq!(run(&b, &a, true).difference, Some(Difference::Size));
    a[2500] = 1;
    assert_eq!(run(&a, &b, false).first_difference, Some(2500));
    assert_eq!(run(&b, &a, false).first_difference, Some(2500));
    assert!(run(&[], &[], true).identical);
    assert!(run(&[0], &[], false).identical);
}
