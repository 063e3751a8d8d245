//! What every driver needs: registers, DMA memory, interrupts, life cycle.
#![no_std]
