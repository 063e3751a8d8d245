//! `memcpy`, `memmove`, `memset`, `memcmp`: the compiler calls them, and no C library is there.
//!
//! Assembly, because written in Rust the compiler would turn the loops into calls of themselves.
//! Short copies go by 16-byte moves, long ones by `rep movsb`, which every CPU with a VMM worth
//! the name does fast. Semantics are the C standard's.

core::arch::global_asm!(
    ".globl memcpy",
    ".type memcpy, @function",
    "memcpy:",
    "mov rax, rdi",
    "cmp rdx, 16",
    "jb 3f",
    "cmp rdx, 1024",
    "ja 2f",
    "xor ecx, ecx",
    "8:",
    "movups xmm0, [rsi + rcx]",
    "movups [rdi + rcx], xmm0",
    "add rcx, 16",
    "lea r8, [rcx + 16]",
    "cmp r8, rdx",
    "jbe 8b",
    "movups xmm0, [rsi + rdx - 16]",
    "movups [rdi + rdx - 16], xmm0",
    "ret",
    "2:",
    "mov rcx, rdx",
    "rep movsb",
    "ret",
    "3:",
    "cmp rdx, 8",
    "jb 4f",
    "mov rcx, [rsi]",
    "mov r8, [rsi + rdx - 8]",
    "mov [rdi], rcx",
    "mov [rdi + rdx - 8], r8",
    "ret",
    "4:",
    "cmp rdx, 4",
    "jb 5f",
    "mov ecx, [rsi]",
    "mov r8d, [rsi + rdx - 4]",
    "mov [rdi], ecx",
    "mov [rdi + rdx - 4], r8d",
    "ret",
    "5:",
    "test rdx, rdx",
    "jz 6f",
    "movzx ecx, byte ptr [rsi]",
    "mov [rdi], cl",
    "dec rdx",
    "jz 6f",
    "movzx ecx, byte ptr [rsi + 1]",
    "mov [rdi + 1], cl",
    "dec rdx",
    "jz 6f",
    "movzx ecx, byte ptr [rsi + 2]",
    "mov [rdi + 2], cl",
    "6:",
    "ret",
    ".size memcpy, . - memcpy",
);

core::arch::global_asm!(
    ".globl memmove",
    ".type memmove, @function",
    "memmove:",
    "mov rax, rdi",
    "mov rcx, rdi",
    "sub rcx, rsi",
    // As unsigned numbers: not (source < target < source + length).
    "cmp rcx, rdx",
    "jae 3f",
    // Backwards; each load comes before the store that could overwrite it.
    "8:",
    "cmp rdx, 8",
    "jb 2f",
    "mov r8, [rsi + rdx - 8]",
    "mov [rdi + rdx - 8], r8",
    "sub rdx, 8",
    "jmp 8b",
    "2:",
    "test rdx, rdx",
    "jz 4f",
    "movzx r8d, byte ptr [rsi + rdx - 1]",
    "mov [rdi + rdx - 1], r8b",
    "dec rdx",
    "jmp 2b",
    // Forwards, by chunks that are loaded before anything behind them is stored.
    "3:",
    "cmp rdx, 1024",
    "ja 6f",
    "5:",
    "cmp rdx, 8",
    "jb 7f",
    "mov r8, [rsi]",
    "mov [rdi], r8",
    "add rsi, 8",
    "add rdi, 8",
    "sub rdx, 8",
    "jmp 5b",
    "7:",
    "test rdx, rdx",
    "jz 4f",
    "movzx r8d, byte ptr [rsi]",
    "mov [rdi], r8b",
    "inc rsi",
    "inc rdi",
    "dec rdx",
    "jmp 7b",
    "6:",
    "mov rcx, rdx",
    "rep movsb",
    "4:",
    "ret",
    ".size memmove, . - memmove",
    ".globl memset",
    ".type memset, @function",
    "memset:",
    "mov r8, rdi",
    "mov rcx, rdx",
    "movzx eax, sil",
    "rep stosb",
    "mov rax, r8",
    "ret",
    ".size memset, . - memset",
    ".globl memcmp",
    ".type memcmp, @function",
    ".globl bcmp",
    ".type bcmp, @function",
    "memcmp:",
    "bcmp:",
    "xor ecx, ecx",
    "8:",
    "lea r8, [rcx + 8]",
    "cmp r8, rdx",
    "ja 2f",
    "mov r9, [rdi + rcx]",
    "cmp r9, [rsi + rcx]",
    "jne 2f",
    "mov rcx, r8",
    "jmp 8b",
    "2:",
    "cmp rcx, rdx",
    "jae 3f",
    "movzx eax, byte ptr [rdi + rcx]",
    "movzx r9d, byte ptr [rsi + rcx]",
    "inc rcx",
    "sub eax, r9d",
    "jz 2b",
    "ret",
    "3:",
    "xor eax, eax",
    "ret",
    ".size memcmp, . - memcmp",
);

#[cfg(test)]
mod tests {
    use alloc::vec::Vec;

    // The symbols of this file: they stand in the test program before the C library's.
    unsafe extern "C" {
        fn memcpy(to: *mut u8, from: *const u8, len: usize) -> *mut u8;
        fn memmove(to: *mut u8, from: *const u8, len: usize) -> *mut u8;
        fn memset(to: *mut u8, value: i32, len: usize) -> *mut u8;
        fn memcmp(a: *const u8, b: *const u8, len: usize) -> i32;
    }

    fn pattern(len: usize) -> Vec<u8> {
        (0..len).map(|i| (i * 7 + i / 251) as u8).collect()
    }

    fn same(a: &[u8], b: &[u8]) -> bool {
        a.len() == b.len() && a.iter().zip(b).all(|(x, y)| x == y)
    }

    #[test]
    fn copies_every_length() {
        for len in (0..200).chain([1023, 1024, 1025, 5000]) {
            let from = pattern(len + 2);
            let mut to = pattern(0);
            to.resize(len + 2, 0xEE);
            // SAFETY: both have `len + 2` bytes.
            unsafe { memcpy(to.as_mut_ptr().add(1), from.as_ptr().add(1), len) };
            assert!(same(&to[1..=len], &from[1..=len]), "length {len}");
            assert!(to[0] == 0xEE && to[len + 1] == 0xEE, "outside at length {len}");
        }
    }

    #[test]
    fn moves_overlapping() {
        for len in (0..80).chain([1024, 1025, 3000]) {
            for shift in [-17_isize, -8, -3, -1, 0, 1, 5, 8, 16, 31] {
                let base = 40;
                let mut bytes = pattern(len + 80);
                let before = bytes.clone();
                let start = bytes.as_mut_ptr();
                // SAFETY: base and base + shift lie with `len` bytes in the buffer.
                unsafe { memmove(start.offset(base + shift), start.offset(base), len) };
                let at = (base + shift) as usize;
                assert!(same(&bytes[at..at + len], &before[40..40 + len]), "{len} {shift}");
                assert!(same(&bytes[..at], &before[..at]), "before {len} {shift}");
                assert!(same(&bytes[at + len..], &before[at + len..]), "behind {len} {shift}");
            }
        }
    }

    #[test]
    fn sets_and_compares() {
        for len in 0..70 {
            let mut a = pattern(len + 1);
            // SAFETY: `len` bytes are there.
            unsafe { memset(a.as_mut_ptr(), 0x1AB, len) };
            assert!(a[..len].iter().all(|&b| b == 0xAB));
            let b = a.clone();
            // SAFETY: both have `len` bytes.
            assert_eq!(unsafe { memcmp(a.as_ptr(), b.as_ptr(), len) }, 0);
            for at in 0..len {
                let mut c = b.clone();
                c[at] = 0xAC;
                // SAFETY: as above.
                let (less, more) = unsafe {
                    (memcmp(b.as_ptr(), c.as_ptr(), len), memcmp(c.as_ptr(), b.as_ptr(), len))
                };
                assert!(less < 0 && more > 0, "{len} {at}");
            }
        }
    }
}
