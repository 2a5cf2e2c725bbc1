//! The key/value cache in its slots, the buffers of a run, and the bindings that show ONNX Runtime a range of slots.

use std::collections::HashMap;
use std::sync::Arc;

use ort::session::{RunOptions, Session};
use ort::value::TensorElementType;

use super::super::model::{BankShape, ModelError, OVER, UNDER};
use super::error::{OnnxError, model_error};
use super::memory::{Binding, HostBuffer, Memory, Pieces, Place, Tensor};
use super::session::{INPUT_IDS, LOGITS, LOGITS_IDX, SEQLENS_K, SIDES, TOTAL_SEQUENCE_LENGTH, past_name, present_name};
use super::{Geometry, OnnxOptions, Provider};

/// Bindings kept, each with 4 views a layer. Which ranges of slots occur is up to the scheduler; few do.
const BINDINGS_MAX: usize = 128;

/// What one run is fed: `tokens` are `pasts.len()` rows of equal length for the slots `first..` of a bank.
pub(super) struct Feed<'a> {
    pub bank: usize,
    pub first: usize,
    pub tokens: &'a [i64],
    /// Tokens that each slot holds already.
    pub pasts: &'a [usize],
    /// Indices into `tokens` whose logits are computed.
    pub wanted: &'a [i64],
}

/// Session, slots and buffers. The fields are dropped in their order here: what comes from the session goes before it.
pub(super) struct Slots {
    bindings: HashMap<Span, Bound>,
    banks: Vec<Bank>,
    buffers: Buffers,
    host: Place,
    device: Place,
    session: Session,
    geometry: Geometry,
    element: TensorElementType,
    /// The bank [`OVER`], if it lies at the end of the memory of [`UNDER`].
    overlay: Option<BankShape>,
    device_name: String,
}

/// A range of slots.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
struct Span {
    bank: usize,
    first: usize,
    rows: usize,
}

/// A binding whose cache views never change, and the two lengths that do.
struct Bound {
    binding: Binding,
    lengths: Option<Lengths>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
struct Lengths {
    tokens: usize,
    wanted: usize,
}

/// A bank's cache: for each layer and side a tensor [slots, kv_heads, context, head_dim] in a block.
struct Bank {
    shape: BankShape,
    blocks: Vec<Arc<Memory>>,
    /// Where the tensor begins in each block, in bytes.
    at: usize,
}

impl Bank {
    /// With a context, and no slots yet.
    fn without_memory(shape: BankShape) -> Self {
        Self {
            shape: BankShape { slots: 0, ..shape },
            blocks: Vec::new(),
            at: 0,
        }
    }
}

/// Inputs and logits, written and read in place.
struct Buffers {
    input_ids: HostBuffer<i64>,
    seqlens_k: HostBuffer<i32>,
    total_sequence_length: HostBuffer<i32>,
    logits_idx: HostBuffer<i64>,
    logits: HostBuffer<f32>,
}

impl Slots {
    pub(super) fn new(session: Session, element: TensorElementType, options: &OnnxOptions) -> Result<Self, OnnxError> {
        let (geometry, provider, shapes) = (options.geometry, options.provider, &options.banks);
        let device_name = provider.device();
        let host = || Place::host().map_err(|error| OnnxError::Slots(model_error(&device_name, &error)));
        let device = match provider {
            Provider::Cpu { .. } => host()?,
            Provider::Cuda { device, .. } => Place::cuda(&session, device).map_err(OnnxError::CudaRuntime)?,
        };
        let host = host()?;
        let buffers = Buffers::new(&host, shapes, geometry.vocabulary).map_err(OnnxError::Slots)?;
        let mut slots = Self {
            bindings: HashMap::new(),
            banks: Vec::new(),
            buffers,
            host,
            device,
            session,
            geometry,
            element,
            overlay: shapes.get(OVER).copied().filter(|_| options.overlaid),
            device_name,
        };
        slots
            .banks
            .extend(shapes.iter().map(|shape| Bank::without_memory(*shape)));
        (0..shapes.len())
            .try_for_each(|bank| slots.allocate(bank, shapes[bank].slots))
            .map_err(OnnxError::Slots)?;
        Ok(slots)
    }

    pub(super) fn is_overlaid(&self) -> bool {
        self.overlay.is_some()
    }

    /// Gives a bank another number of slots, all of them empty; those of a bank that shares its memory are empty then too. When there is no memory
    /// for them these banks are left with none.
    pub(super) fn resize(&mut self, bank: usize, slots: usize) -> Result<(), ModelError> {
        let renewed = match self.is_overlaid() {
            true => UNDER..OVER + 1,
            false => bank..bank + 1,
        };
        let mut wanted: Vec<_> = self.banks.iter().map(|bank| bank.shape).collect();
        wanted[bank].slots = slots;
        // Freed before it is allocated anew: both together may not fit. The bindings hold it too.
        self.bindings.clear();
        for index in renewed.clone() {
            self.banks[index] = Bank::without_memory(wanted[index]);
        }
        self.buffers = Buffers::new(&self.host, &wanted, self.geometry.vocabulary)?;
        for index in renewed {
            self.allocate(index, wanted[index].slots)?;
        }
        Ok(())
    }

    /// Slots that a bank has.
    pub(super) fn count(&self, bank: usize) -> usize {
        self.banks[bank].shape.slots
    }

    /// Runs the graph. Gives the logits of the wanted rows, one after the other.
    ///
    /// # Panics
    /// If the feed does not fit the bank.
    pub(super) fn run(&mut self, feed: &Feed<'_>, options: &RunOptions) -> Result<&[f32], ModelError> {
        let rows = feed.pasts.len();
        let length = feed.tokens.len() / rows;
        let shape = self.banks[feed.bank].shape;
        assert!(
            feed.tokens.len() == rows * length && (rows == 1 || length == 1),
            "one chunk, or one token of many"
        );
        assert!(feed.first + rows <= shape.slots, "the rows are slots of the bank");
        assert!(
            feed.pasts.iter().all(|past| past + length <= shape.context),
            "every row fits its slot"
        );
        assert!(feed.wanted.len() <= rows, "at most one row of logits for each sequence");
        let span = Span {
            bank: feed.bank,
            first: feed.first,
            rows,
        };
        let lengths = Lengths {
            tokens: length,
            wanted: feed.wanted.len(),
        };
        self.buffers.fill(feed, length);
        match self.run_span(span, lengths, options) {
            Ok(()) => Ok(self.buffers.logits.read(feed.wanted.len() * self.geometry.vocabulary)),
            Err(error) => {
                self.bindings.remove(&span); // it may be half made
                Err(model_error(&self.device_name, &error))
            }
        }
    }

    fn run_span(&mut self, span: Span, lengths: Lengths, options: &RunOptions) -> ort::Result<()> {
        if !self.bindings.contains_key(&span) {
            if self.bindings.len() >= BINDINGS_MAX {
                self.bindings.clear();
            }
            let bound = self.bind_cache(span)?;
            self.bindings.insert(span, bound);
        }
        let bound = self
            .bindings
            .get_mut(&span)
            .expect("it was inserted above if it was not there");
        // The processor reads the buffers themselves. A card gets a copy of an input when it is bound, so there every run binds.
        let copied = !self.device.is_host();
        if copied || bound.lengths != Some(lengths) {
            self.buffers.bind(
                &mut bound.binding,
                &self.host,
                span.rows,
                lengths,
                self.geometry.vocabulary,
            )?;
            bound.lengths = Some(lengths);
        }
        if copied {
            bound.binding.wait_for_inputs()?;
        }
        bound.binding.run(&mut self.session, options)
    }

    fn bind_cache(&self, span: Span) -> ort::Result<Bound> {
        let bank = &self.banks[span.bank];
        let shape = [
            span.rows,
            self.geometry.kv_heads,
            bank.shape.context,
            self.geometry.head_dim,
        ];
        let shape = shape.map(|dimension| dimension as i64);
        let mut binding = Binding::new(&self.session)?;
        for (index, memory) in bank.blocks.iter().enumerate() {
            let (layer, side) = (index / SIDES.len(), SIDES[index % SIDES.len()]);
            let view = Tensor {
                place: &self.device,
                memory,
                at: bank.at + span.first * self.slot_bytes(bank.shape.context),
                shape: &shape,
                element: self.element,
            };
            binding.input(&past_name(layer, side), &view)?;
            binding.output(&present_name(layer, side), &view)?;
        }
        Ok(Bound { binding, lengths: None })
    }

    /// Copies the first `tokens` positions of a slot to another slot of the bank.
    ///
    /// # Panics
    /// If a slot is not in the bank or holds fewer positions.
    pub(super) fn copy_prefix(&mut self, bank: usize, from: usize, to: usize, tokens: usize) -> Result<(), ModelError> {
        let bank = &self.banks[bank];
        assert!(
            from.max(to) < bank.shape.slots && tokens <= bank.shape.context,
            "positions of the bank"
        );
        if from == to {
            return Ok(());
        }
        let slot = self.slot_bytes(bank.shape.context);
        let pieces = Pieces {
            from: bank.at + from * slot,
            to: bank.at + to * slot,
            pitch: self.head_bytes(bank.shape.context),
            bytes: self.head_bytes(tokens),
            rows: self.geometry.kv_heads,
        };
        self.device.copy(&bank.blocks, &pieces).map_err(ModelError::Failed)
    }

    /// The bits that a slot holds at a position, of all layers, sides and heads; nothing if they are on a card.
    pub(super) fn position_bits(&self, bank: usize, slot: usize, position: usize) -> Option<Vec<u8>> {
        let bank = &self.banks[bank];
        let head = self.head_bytes(bank.shape.context);
        let mut bits = Vec::new();
        for block in &bank.blocks {
            for index in 0..self.geometry.kv_heads {
                let at = bank.at + (slot * self.geometry.kv_heads + index) * head + self.head_bytes(position);
                bits.extend(block.read(at, self.head_bytes(1))?);
            }
        }
        Some(bits)
    }

    /// Overwrites all that a slot holds; does nothing on a card.
    pub(super) fn fill(&mut self, bank: usize, slot: usize, byte: u8) {
        let bank = &self.banks[bank];
        let bytes = self.slot_bytes(bank.shape.context);
        bank.blocks
            .iter()
            .for_each(|block| block.fill(bank.at + slot * bytes, bytes, byte));
    }

    /// Gives a bank that has none memory for so many slots. The bank [`UNDER`] comes before the one that lies over it.
    fn allocate(&mut self, bank: usize, slots: usize) -> Result<(), ModelError> {
        let shape = BankShape {
            slots,
            ..self.banks[bank].shape
        };
        let out_of_memory = |reason: String| ModelError::OutOfMemory {
            device: self.device_name.clone(),
            reason,
        };
        let bytes_of = |shape: BankShape| {
            let bytes = self.slot_bytes(shape.context).checked_mul(shape.slots);
            bytes.ok_or_else(|| out_of_memory(format!("{shape:?} is beyond any memory")))
        };
        let own = bytes_of(shape)?;
        let (blocks, at) = match self.overlay {
            Some(_) if bank == OVER => {
                let blocks = self.banks[UNDER].blocks.clone();
                let at = blocks.first().map_or(0, |block| block.bytes() - own);
                (blocks, at)
            }
            overlay => {
                let shared = overlay.map_or(Ok(0), bytes_of)?;
                let block = |_| self.device.zeroed(own.max(shared)).map_err(out_of_memory);
                let blocks = (0..self.geometry.layers * SIDES.len()).map(block);
                (blocks.collect::<Result<_, _>>()?, 0)
            }
        };
        self.banks[bank] = Bank { shape, blocks, at };
        Ok(())
    }

    /// Bytes of one head's first `tokens` positions.
    fn head_bytes(&self, tokens: usize) -> usize {
        let values = tokens.saturating_mul(self.geometry.head_dim);
        self.element.byte_size(values).expect("the cache's numbers have a size")
    }

    /// Bytes of a slot in one block.
    fn slot_bytes(&self, context: usize) -> usize {
        self.geometry.kv_heads * self.head_bytes(context)
    }
}

impl Buffers {
    /// Large enough for any run on these banks.
    fn new(host: &Place, banks: &[BankShape], vocabulary: usize) -> Result<Self, ModelError> {
        let rows = banks.iter().map(|bank| bank.slots).max().unwrap_or(0);
        let tokens = banks.iter().map(|bank| bank.context).max().unwrap_or(0).max(rows);
        let make = || {
            Ok(Self {
                input_ids: HostBuffer::zeroed(host, tokens)?,
                seqlens_k: HostBuffer::zeroed(host, rows)?,
                total_sequence_length: HostBuffer::zeroed(host, 1)?,
                logits_idx: HostBuffer::zeroed(host, rows)?,
                logits: HostBuffer::zeroed(host, rows * vocabulary)?,
            })
        };
        make().map_err(|reason| ModelError::OutOfMemory {
            device: "cpu".to_owned(),
            reason,
        })
    }

    fn fill(&mut self, feed: &Feed<'_>, length: usize) {
        // A context is far shorter than an i32 counts.
        let last = |past: usize| (past + length - 1) as i32;
        let longest = feed.pasts.iter().copied().max().unwrap_or(0);
        self.input_ids.write(feed.tokens.iter().copied());
        self.seqlens_k.write(feed.pasts.iter().map(|past| last(*past)));
        self.total_sequence_length.write([last(longest) + 1]);
        self.logits_idx.write(feed.wanted.iter().copied());
    }

    fn bind(
        &self,
        binding: &mut Binding,
        host: &Place,
        rows: usize,
        lengths: Lengths,
        vocabulary: usize,
    ) -> ort::Result<()> {
        let [rows, tokens, wanted, vocabulary] =
            [rows, lengths.tokens, lengths.wanted, vocabulary].map(|dimension| dimension as i64);
        binding.input(INPUT_IDS, &self.input_ids.tensor(host, &[rows, tokens]))?;
        binding.input(SEQLENS_K, &self.seqlens_k.tensor(host, &[rows]))?;
        binding.input(TOTAL_SEQUENCE_LENGTH, &self.total_sequence_length.tensor(host, &[]))?;
        binding.input(LOGITS_IDX, &self.logits_idx.tensor(host, &[wanted]))?;
        binding.output(LOGITS, &self.logits.tensor(host, &[wanted, vocabulary]))
    }
}
