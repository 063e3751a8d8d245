//! A table with small reusable numbers.

use alloc::vec::Vec;

#[derive(Debug)]
pub(crate) struct Slab<T> {
    items: Vec<Option<T>>,
    free: Vec<u32>,
    /// What may have changed since it was last asked for, most of it once.
    touched: Vec<u32>,
}

impl<T> Slab<T> {
    pub fn new() -> Self {
        Self { items: Vec::new(), free: Vec::new(), touched: Vec::new() }
    }

    pub fn insert(&mut self, item: T) -> u32 {
        let id = match self.free.pop() {
            Some(id) => {
                self.items[id as usize] = Some(item);
                id
            }
            None => {
                self.items.push(Some(item));
                (self.items.len() - 1) as u32
            }
        };
        self.touch(id);
        id
    }

    /// Puts an item where one was before; [`Slab::mend`] follows. False: there is one already.
    pub fn insert_at(&mut self, id: u32, item: T) -> bool {
        let at = id as usize;
        if self.items.len() <= at {
            self.items.resize_with(at + 1, || None);
        }
        self.touch(id);
        self.items[at].replace(item).is_none()
    }

    /// After [`Slab::insert_at`]: the numbers between are free.
    pub fn mend(&mut self) {
        let empty = self.items.iter().enumerate().filter(|(_, item)| item.is_none());
        self.free = empty.map(|(id, _)| id as u32).rev().collect();
    }

    fn touch(&mut self, id: u32) {
        if self.touched.last() != Some(&id) {
            self.touched.push(id);
        }
    }

    /// The numbers whose items were made, removed or lent for changing.
    pub fn take_touched(&mut self) -> Vec<u32> {
        let mut touched = core::mem::take(&mut self.touched);
        touched.sort_unstable();
        touched.dedup();
        touched
    }

    pub fn remove(&mut self, id: u32) -> Option<T> {
        let item = self.items.get_mut(id as usize)?.take();
        if item.is_some() {
            self.free.push(id);
            self.touch(id);
        }
        item
    }

    pub fn get(&self, id: u32) -> Option<&T> {
        self.items.get(id as usize)?.as_ref()
    }

    /// As [`Slab::get_mut`], for what is no change to anybody.
    pub fn get_quietly(&mut self, id: u32) -> Option<&mut T> {
        self.items.get_mut(id as usize)?.as_mut()
    }

    pub fn get_mut(&mut self, id: u32) -> Option<&mut T> {
        if self.get(id).is_some() {
            self.touch(id);
        }
        self.items.get_mut(id as usize)?.as_mut()
    }

    pub fn len(&self) -> usize {
        self.items.len() - self.free.len()
    }

    /// One past the highest number in use.
    pub fn end(&self) -> u32 {
        self.items.len() as u32
    }

    pub fn iter_mut(&mut self) -> impl Iterator<Item = (u32, &mut T)> {
        let items = self.items.iter_mut().enumerate();
        items.filter_map(|(id, item)| Some((id as u32, item.as_mut()?)))
    }

    pub fn iter(&self) -> impl Iterator<Item = (u32, &T)> {
        self.items.iter().enumerate().filter_map(|(id, item)| Some((id as u32, item.as_ref()?)))
    }
}
