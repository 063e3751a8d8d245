//! A disk whose back end moves data by itself, behind an IOMMU.

use super::dma::TranslatedDma;
use crate::backend::{BackendError, BlockBackend, BlockInfo, Completion, Operation, Request};
use crate::dma::Dma;
use std::collections::VecDeque;
use std::sync::Arc;

/// Gives the back end guest-physical addresses. A request to memory that is not mapped ends with
/// [`BackendError::FAULT`] and does nothing.
pub struct TranslatedDisk<B> {
    inner: B,
    memory: Arc<TranslatedDma>,
    /// Guest memory untranslated, for the back end.
    physical: Arc<dyn Dma>,
    refused: VecDeque<Completion>,
}

impl<B: BlockBackend> TranslatedDisk<B> {
    pub fn new(inner: B, memory: Arc<TranslatedDma>, physical: Arc<dyn Dma>) -> Self {
        Self { inner, memory, physical, refused: VecDeque::new() }
    }
}

impl<B: BlockBackend> BlockBackend for TranslatedDisk<B> {
    fn info(&self) -> BlockInfo {
        self.inner.info()
    }

    fn submit(&mut self, request: Request, _dma: &dyn Dma) {
        // What is read from the disk is written to memory.
        let write = request.operation == Operation::Read;
        match self.memory.physical(&request.segments, write) {
            Ok(segments) => self.inner.submit(Request { segments, ..request }, &*self.physical),
            Err(_) => {
                let result = Err(BackendError::FAULT);
                self.refused.push_back(Completion { tag: request.tag, result });
            }
        }
    }

    fn start(&mut self) {
        self.inner.start();
    }

    fn poll(&mut self) -> Option<Completion> {
        self.refused.pop_front().or_else(|| self.inner.poll())
    }

    fn in_flight(&self) -> usize {
        self.refused.len() + self.inner.in_flight()
    }

    fn cancel(&mut self) {
        self.inner.cancel();
    }
}
