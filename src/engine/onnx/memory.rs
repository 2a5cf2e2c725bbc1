//! Memory that ONNX Runtime reads and writes in place, runs on it, the CUDA calls that `ort` lacks, and what the C library is told about memory: all
//! the unsafe code of the house.
//!
//! Nothing in `ort` ties a view to the memory below it, so here a [`Binding`] holds on to the memory of its views. What is left to the owner,
//! `Slots`, is to touch memory only while no run goes on: it takes `&mut self` for either.

use std::alloc::{Layout, alloc_zeroed, dealloc};
use std::ffi::{CStr, c_char, c_int, c_void};
use std::marker::PhantomData;
use std::path::Path;
use std::ptr::{self, NonNull};
use std::sync::Arc;

use libloading::Library;
use ort::AsPointer;
use ort::memory::{AllocationDevice, Allocator, AllocatorType, MemoryInfo, MemoryType};
use ort::session::{IoBinding, RunOptions, Session};
use ort::value::{DynValue, TensorElementType};

/// Enough for vector loads, and what `calloc` still gives without touching the pages.
const ALIGNMENT_BYTES: usize = 16;

/// A device's memory: where blocks come from.
pub(super) struct Place {
    info: MemoryInfo<'static>,
    allocator: Arc<SharedAllocator>,
    cuda: Option<Cuda>,
}

/// An allocator of ONNX Runtime, kept until the last block that came from it is freed.
struct SharedAllocator(Allocator);

// SAFETY: `ort` doubts that allocators bear use from many threads at once. Here only the thread that owns the model allocates and frees.
unsafe impl Send for SharedAllocator {}
// SAFETY: as above.
unsafe impl Sync for SharedAllocator {}

impl Place {
    /// The host's memory.
    pub(super) fn host() -> ort::Result<Self> {
        Ok(Self {
            info: MemoryInfo::new(AllocationDevice::CPU, 0, AllocatorType::Device, MemoryType::Default)?,
            allocator: Arc::new(SharedAllocator(Allocator::default())),
            cuda: None,
        })
    }

    /// A card's memory, out of the session's own arena and its limit.
    pub(super) fn cuda(session: &Session, device: u32) -> Result<Self, String> {
        let device = c_int::try_from(device).map_err(|_| format!("there is no card of number {device}"))?;
        let info = || {
            MemoryInfo::new(
                AllocationDevice::CUDA,
                device,
                AllocatorType::Device,
                MemoryType::Default,
            )
            .map_err(|error| error.to_string())
        };
        let allocator = Allocator::new(session, info()?).map_err(|error| error.to_string())?;
        Ok(Self {
            info: info()?,
            allocator: Arc::new(SharedAllocator(allocator)),
            cuda: Some(Cuda::new(device)?),
        })
    }

    /// Whether the processor can read and write the memory.
    pub(super) fn is_host(&self) -> bool {
        self.cuda.is_none()
    }

    /// A block of zeros.
    pub(super) fn zeroed(&self, bytes: usize) -> Result<Arc<Memory>, String> {
        let too_large = || format!("a block of {bytes} bytes");
        let layout = Layout::from_size_align(bytes.max(1), ALIGNMENT_BYTES).map_err(|_| too_large())?;
        let (start, source) = match &self.cuda {
            // SAFETY: the size is not 0.
            None => (NonNull::new(unsafe { alloc_zeroed(layout) }), None),
            Some(_) => {
                let block = self
                    .allocator
                    .0
                    .alloc::<u8>(layout.size())
                    .map_err(|error| error.to_string())?;
                (NonNull::new(block.into_raw().cast()), Some(Arc::clone(&self.allocator)))
            }
        };
        let start = start.ok_or_else(too_large)?;
        let memory = Arc::new(Memory { start, layout, source });
        if let Some(cuda) = &self.cuda {
            // What an arena gives is not clean, and not every kernel of a card is known to look only at what was written.
            // SAFETY: the block is of this size and on this device.
            unsafe { cuda.clear(start, layout.size())? };
            cuda.wait()?;
        }
        Ok(memory)
    }

    /// Copies `rows` pieces of `bytes` inside each of these blocks; pieces begin at `from` and `to` and are `pitch` apart.
    pub(super) fn copy(&self, blocks: &[Arc<Memory>], pieces: &Pieces) -> Result<(), String> {
        let Pieces {
            from,
            to,
            pitch,
            bytes,
            rows,
        } = *pieces;
        let span = rows.checked_mul(pitch).expect("a slot's size is a number");
        assert!(
            bytes <= pitch && from.abs_diff(to) >= span,
            "pieces are apart, and so are source and target"
        );
        for block in blocks {
            assert!(block.holds(from.max(to), span), "pieces are inside the block");
            // SAFETY: checked above; blocks of this place are on its device.
            unsafe {
                let (source, target) = (block.start.add(from), block.start.add(to));
                match &self.cuda {
                    Some(cuda) => cuda.copy(target, source, pitch, bytes, rows)?,
                    None => (0..rows)
                        .map(|row| row * pitch)
                        .for_each(|at| source.add(at).copy_to_nonoverlapping(target.add(at), bytes)),
                }
            }
        }
        self.cuda.as_ref().map_or(Ok(()), Cuda::wait)
    }
}

/// What [`Place::copy`] copies, in bytes.
pub(super) struct Pieces {
    pub from: usize,
    pub to: usize,
    pub pitch: usize,
    pub bytes: usize,
    pub rows: usize,
}

/// A block that never moves. It is reached by pointer only, since ONNX Runtime writes it too.
pub(super) struct Memory {
    start: NonNull<u8>,
    layout: Layout,
    /// `None`: the host's.
    source: Option<Arc<SharedAllocator>>,
}

// SAFETY: a pointer to memory that nobody else has; a shared reference gives no access that `Slots` does not order.
unsafe impl Send for Memory {}
// SAFETY: as above.
unsafe impl Sync for Memory {}

impl Memory {
    fn holds(&self, at: usize, bytes: usize) -> bool {
        at.checked_add(bytes).is_some_and(|end| end <= self.layout.size())
    }

    /// Its size.
    pub(super) fn bytes(&self) -> usize {
        self.layout.size()
    }

    /// A copy of `bytes` bytes at `at`; `None` on a card.
    pub(super) fn read(&self, at: usize, bytes: usize) -> Option<Vec<u8>> {
        assert!(self.holds(at, bytes), "inside the block");
        // SAFETY: inside the block, which was zeroed when it was made.
        let bits = || unsafe { std::slice::from_raw_parts(self.start.add(at).as_ptr(), bytes) }.to_vec();
        self.source.is_none().then(bits)
    }

    /// Overwrites `bytes` bytes at `at`; does nothing on a card.
    pub(super) fn fill(&self, at: usize, bytes: usize, value: u8) {
        assert!(self.holds(at, bytes), "inside the block");
        if self.source.is_none() {
            // SAFETY: inside the block.
            unsafe { self.start.add(at).write_bytes(value, bytes) };
        }
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        match &self.source {
            // SAFETY: allocated in `Place::zeroed` with this layout; every binding that sees it holds it.
            None => unsafe { dealloc(self.start.as_ptr(), self.layout) },
            // SAFETY: allocated in `Place::zeroed` by this allocator; every binding that sees it holds it.
            Some(allocator) => unsafe { allocator.0.free(self.start.as_ptr()) },
        }
    }
}

/// Numbers in the host's memory, for inputs and logits.
pub(super) struct HostBuffer<T> {
    memory: Arc<Memory>,
    elements: PhantomData<T>,
}

/// Element types of the buffers.
///
/// # Safety
/// All bits zero is a value, its alignment is at most `ALIGNMENT_BYTES`, and `TYPE` is its name in ONNX.
pub(super) unsafe trait Element: Copy {
    const TYPE: TensorElementType;
}

// SAFETY: a plain number.
unsafe impl Element for i64 {
    const TYPE: TensorElementType = TensorElementType::Int64;
}
// SAFETY: a plain number.
unsafe impl Element for i32 {
    const TYPE: TensorElementType = TensorElementType::Int32;
}
// SAFETY: a plain number.
unsafe impl Element for f32 {
    const TYPE: TensorElementType = TensorElementType::Float32;
}

impl<T: Element> HostBuffer<T> {
    pub(super) fn zeroed(host: &Place, length: usize) -> Result<Self, String> {
        assert!(host.is_host(), "buffers are written and read in place");
        Ok(Self {
            memory: host.zeroed(length.checked_mul(size_of::<T>()).ok_or("a buffer beyond all memory")?)?,
            elements: PhantomData,
        })
    }

    pub(super) fn write(&mut self, values: impl IntoIterator<Item = T>) {
        for (index, value) in values.into_iter().enumerate() {
            assert!(
                (index + 1) * size_of::<T>() <= self.memory.layout.size(),
                "inside the buffer"
            );
            // SAFETY: inside the buffer and aligned.
            unsafe { self.memory.start.cast::<T>().add(index).write(value) };
        }
    }

    /// The first `length` numbers.
    pub(super) fn read(&self, length: usize) -> &[T] {
        assert!(
            length * size_of::<T>() <= self.memory.layout.size(),
            "inside the buffer"
        );
        // SAFETY: inside the buffer, aligned, and values since it was zeroed.
        unsafe { std::slice::from_raw_parts(self.memory.start.cast::<T>().as_ptr(), length) }
    }

    /// Its beginning as a tensor.
    pub(super) fn tensor<'a>(&'a self, host: &'a Place, shape: &'a [i64]) -> Tensor<'a> {
        Tensor {
            place: host,
            memory: &self.memory,
            at: 0,
            shape,
            element: T::TYPE,
        }
    }
}

/// A tensor to be bound: part of a block.
pub(super) struct Tensor<'a> {
    pub place: &'a Place,
    pub memory: &'a Arc<Memory>,
    /// Where it begins, in bytes.
    pub at: usize,
    pub shape: &'a [i64],
    pub element: TensorElementType,
}

impl Tensor<'_> {
    /// It has to own itself in `ort`'s eyes: binding a borrowed one never returns.
    fn view(&self) -> ort::Result<DynValue> {
        let elements = self.shape.iter().product::<i64>() as usize;
        let bytes = self.element.byte_size(elements).expect("numbers have a size");
        assert!(self.at + bytes <= self.memory.layout.size(), "inside the block");
        let mut value = ptr::null_mut();
        // SAFETY: makes a descriptor of memory that is there; the bindings hold the memory as long as the descriptor.
        unsafe {
            let status = (ort::api().CreateTensorWithDataAsOrtValue)(
                self.place.info.ptr(),
                self.memory.start.add(self.at).as_ptr().cast::<c_void>(),
                bytes,
                self.shape.as_ptr(),
                self.shape.len(),
                self.element.into(),
                &mut value,
            );
            ort::Error::result_from_status(status)?;
            let value = NonNull::new(value).expect("success gives a value");
            Ok(DynValue::from_ptr(value, Some(&self.place.allocator.0)))
        }
    }
}

/// A session's inputs and outputs, with the memory that they are in.
pub(super) struct Binding {
    binding: IoBinding,
    memory: Vec<Arc<Memory>>,
}

impl Binding {
    pub(super) fn new(session: &Session) -> ort::Result<Self> {
        Ok(Self {
            binding: session.create_binding()?,
            memory: Vec::new(),
        })
    }

    pub(super) fn input(&mut self, name: &str, tensor: &Tensor<'_>) -> ort::Result<()> {
        self.hold(tensor.memory);
        self.binding.bind_input(name, &tensor.view()?)
    }

    pub(super) fn output(&mut self, name: &str, tensor: &Tensor<'_>) -> ort::Result<()> {
        self.hold(tensor.memory);
        self.binding.bind_output(name, tensor.view()?)
    }

    /// Waits for the inputs that were copied to a card when they were bound.
    pub(super) fn wait_for_inputs(&self) -> ort::Result<()> {
        self.binding.synchronize_inputs()
    }

    /// `Session::run_binding` would wrap every output, two for each layer, only to have them dropped.
    pub(super) fn run(&mut self, session: &mut Session, options: &RunOptions) -> ort::Result<()> {
        // SAFETY: the three objects are alive, and the session is not in another run.
        unsafe {
            let status = (ort::api().RunWithBinding)(session.ptr_mut(), options.ptr(), self.binding.ptr());
            ort::Error::result_from_status(status)
        }
    }

    fn hold(&mut self, memory: &Arc<Memory>) {
        if !self.memory.iter().any(|held| Arc::ptr_eq(held, memory)) {
            self.memory.push(Arc::clone(memory));
        }
    }
}

/// The few calls of NVIDIA's runtime that move bytes inside a card. ONNX Runtime has loaded the library; this finds it again by its name.
struct Cuda {
    device: c_int,
    set_device: unsafe extern "C" fn(c_int) -> c_int,
    clear: unsafe extern "C" fn(*mut c_void, c_int, usize) -> c_int,
    copy: unsafe extern "C" fn(*mut c_void, usize, *const c_void, usize, usize, usize, c_int) -> c_int,
    wait: unsafe extern "C" fn() -> c_int,
    describe: unsafe extern "C" fn(c_int) -> *const c_char,
    /// Keeps the functions where they are.
    _library: Library,
}

const CUDA_RUNTIME: &str = "libcudart.so.13";
/// `cudaMemcpyDeviceToDevice`.
const DEVICE_TO_DEVICE: c_int = 3;

impl Cuda {
    fn new(device: c_int) -> Result<Self, String> {
        let text = |error: libloading::Error| error.to_string();
        // SAFETY: the names and signatures are those of the CUDA 13 runtime API.
        unsafe {
            let library = Library::new(CUDA_RUNTIME).map_err(text)?;
            Ok(Self {
                device,
                set_device: *library.get(b"cudaSetDevice").map_err(text)?,
                clear: *library.get(b"cudaMemset").map_err(text)?,
                copy: *library.get(b"cudaMemcpy2D").map_err(text)?,
                wait: *library.get(b"cudaDeviceSynchronize").map_err(text)?,
                describe: *library.get(b"cudaGetErrorString").map_err(text)?,
                _library: library,
            })
        }
    }

    /// # Safety
    /// `start` is memory of this device, of at least `bytes`.
    unsafe fn clear(&self, start: NonNull<u8>, bytes: usize) -> Result<(), String> {
        // SAFETY: as promised by the caller.
        unsafe {
            self.check((self.set_device)(self.device))?;
            self.check((self.clear)(start.as_ptr().cast(), 0, bytes))
        }
    }

    /// # Safety
    /// Both point to memory of this device, of at least `rows` times `pitch`, that does not overlap.
    unsafe fn copy(
        &self,
        target: NonNull<u8>,
        source: NonNull<u8>,
        pitch: usize,
        bytes: usize,
        rows: usize,
    ) -> Result<(), String> {
        let (target, source) = (target.as_ptr().cast(), source.as_ptr().cast());
        // SAFETY: as promised by the caller.
        unsafe {
            self.check((self.set_device)(self.device))?;
            self.check((self.copy)(target, pitch, source, pitch, bytes, rows, DEVICE_TO_DEVICE))
        }
    }

    /// Until all that was asked of the card is done: ONNX Runtime's own stream would not wait for it.
    fn wait(&self) -> Result<(), String> {
        // SAFETY: no arguments.
        unsafe {
            self.check((self.set_device)(self.device))?;
            self.check((self.wait)())
        }
    }

    fn check(&self, code: c_int) -> Result<(), String> {
        if code == 0 {
            return Ok(());
        }
        // SAFETY: it gives a static text for any code.
        let text = unsafe { CStr::from_ptr((self.describe)(code)) };
        Err(format!("CUDA failure {code}: {}", text.to_string_lossy()))
    }
}

/// The version that a library of ONNX Runtime says it is; an error if it is no such library.
pub(super) fn library_version(path: &Path) -> Result<String, libloading::Error> {
    // SAFETY: loading runs the library's initialisers, which is what it is for; the symbol has this signature in every version.
    unsafe {
        let library = Library::new(path)?;
        let base = library.get::<unsafe extern "C" fn() -> *const ort::sys::OrtApiBase>(b"OrtGetApiBase")?();
        Ok(CStr::from_ptr(((*base).GetVersionString)())
            .to_string_lossy()
            .into_owned())
    }
}

/// Has the C library give large blocks back to the system as they are freed, whatever it has seen freed before, and keep two arenas. By itself it
/// would come to keep blocks of up to 32 MiB, and twice as much again in each of its arenas; and with an arena for every thread, what one thread has freed
/// is of no use to the others: after a rush that was 18 MiB. Nobody waits for an arena noticeably, for steps hardly allocate.
pub fn keep_little_freed_memory() {
    #[cfg(target_env = "gnu")]
    // SAFETY: it sets three numbers, under the library's own lock.
    unsafe {
        libc::mallopt(libc::M_MMAP_THRESHOLD, 128 << 10);
        libc::mallopt(libc::M_TRIM_THRESHOLD, 1 << 20);
        libc::mallopt(libc::M_ARENA_MAX, 2);
    }
}

/// Gives back to the system whatever the C library keeps of freed memory. Takes some milliseconds.
pub fn trim_memory() {
    #[cfg(target_env = "gnu")]
    // SAFETY: it touches nothing but what is free, under the library's own locks.
    unsafe {
        libc::malloc_trim(0);
    }
}
