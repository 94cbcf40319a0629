//! Every constant that is not mathematics, each with its reason.

/// Keys summed in working precision before they are folded in double precision: keeps the rounding of a sum over
/// keys at that of one block, for a fold that costs 2 % of the block. A multiple of every level's strip of keys.
pub const KEY_BLOCK: usize = 240;

/// Bytes of keys and values in a block: half of a 256 KiB share of L2, so that a block stays there for all tiles of a
/// task.
pub const KEY_BLOCK_BYTES: usize = 128 << 10;

/// Least keys in a block, however wide: two strips of 12, a multiple of every level's strip.
pub const KEY_BLOCK_MIN: usize = 24;

/// Largest ratio of the keys in a block to the square of the keys in a strip: b / J strips of J may be rounded alike
/// behind a key that holds a row, √b roundings are usual, and the first over the second should be no larger where
/// strips are short.
pub const KEY_BLOCK_SQUARES: usize = 7;

/// Queries per task of a pass over the query side: a block of keys from L2 is used by this many queries before the
/// next one comes, and n = 8192 still gives 64 tasks.
pub const TASK_QUERIES: usize = 128;

/// Tasks that few queries are cut into, so that 8 threads have one each ...
pub const LEAST_TASKS: usize = 8;

/// ... of no fewer queries than the widest tile has lanes.
pub const LEAST_TASK_QUERIES: usize = 32;

/// Tasks that few queries and many keys are cut into by both: 8 threads have two each.
pub const SPLIT_TASKS: usize = 16;

/// Least keys of a part of them: what a part leaves is summed up by one thread, a hundredth of the work on its keys.
pub const SPLIT_KEYS: usize = 2048;

/// Most that the rounding of a logarithm of the normaliser may change a weight, relative to it, where it is used again:
/// a hundred times what the logits of trained heads lose in single precision.
pub const LOGARITHM_ROUNDING: f64 = 1.0 / 1024.0;

/// Bytes, of all threads together, for weights that pass 1 keeps for pass 2 ...
pub const KEPT_BYTES: usize = 32 << 20;

/// ... and of each thread where there are more than share those: kept weights save a fifth of the operations at any number.
pub const KEPT_THREAD_BYTES: usize = 16 << 20;

/// Most tiles of queries whose weights are kept at a time: two stay near L2, and share the keys that stream by.
pub const KEPT_TILES: usize = 2;

/// Queries whose P and p the key side keeps at a time: with a block of keys they fill about half of L2.
pub const KEY_SIDE_QUERIES: usize = 64;

/// Queries per wave of the key side: the sums over queries are folded in double precision once a wave, and what more
/// queries keep is too much memory to come by (in pages, for each call) and to stream through the caches twice.
pub const WAVE_QUERIES: usize = 256;

/// Most chunks of keys per wave: bounds the partial w to 32 · 256 rows, and the threads of that pass to 32.
pub const WAVE_CHUNKS: usize = 32;

/// Least keys per chunk: below it the partial w shows.
pub const CHUNK_KEYS: usize = 120;

/// The running shift follows the row maximum only when it is outgrown by this much (base-2 units): weights up to 2^8
/// are harmless, and rescaling becomes rare.
pub const LAZY_SHIFT: f64 = 8.0;

/// Rows per block of a product with a small matrix.
pub const PRODUCT_ROWS: usize = 256;

/// Entries of the rows that are measured or packed at a time: about a nanosecond each.
pub const PART_ENTRIES: usize = 1 << 15;

/// Most partial sums of a product AᵀB; its order of summation is fixed by them.
pub const PRODUCT_PARTS: usize = 16;

/// Interval at which the waiting thread looks for signals and the deadline: an answer within 0.5 s leaves room for one
/// task's block.
pub const POLL: std::time::Duration = std::time::Duration::from_millis(20);

/// Most threads that may be asked for: more than most machines have, and few enough to multiply.
pub const MOST_THREADS: usize = 1024;

/// Work below which waking other threads does not pay: it takes about as long until they have begun, and the one that
/// waits for them has gone on.
pub const WAKE_NANOSECONDS: usize = 150_000;

/// Operations of the exact passes in a nanosecond on one thread, roughly: whether many heads are worth waking threads.
pub const OPERATIONS_PER_NANOSECOND: f64 = 75.0;

/// Time that a head takes besides, however short it is.
pub const HEAD_NANOSECONDS: f64 = 5_000.0;

/// A head of less work than this is left to one thread, even where another one then has none: the waits of its waves
/// would cost a tenth of it.
pub const LONG_HEAD_NANOSECONDS: f64 = 1e6;

/// Queries or keys of a head from which on its rounding estimate looks at which rows are alike, also where no tolerance
/// is held against it: one from sizes alone grows with them, and this one takes less of the time.
pub const FINE_ROWS: usize = 512;

/// How often a worker looks for the end of the tasks before its own until it lets others have the processor: some ten
/// microseconds, what an even share of tasks ends apart by.
pub const AWAKE_LOOKS: usize = 1000;

/// How often it does that until it sleeps: a few milliseconds, next to which the tenth that waking takes is little.
/// Where there are more threads than tasks at a time, some would otherwise burn a core to the end.
pub const AWAKE_YIELDS: usize = 10_000;

/// Safety factor of the rounding estimate for rows whose errors cancel: tests/accuracy holds it above the error on
/// 20 000 problems of all kinds, and within 1000 of it on typical data.
pub const ROUNDING_SAFETY: f64 = 5.0;

/// The same for errors that line up, of which there is one and not many: it is as large as it can be, or smaller. On
/// rows that are alike the estimate stays within 100 times the error with 2.
pub const LINED_UP_SAFETY: f64 = 2.0;

/// Roundings of a sum up to which a strip of keys counts as small beside it: the last bits of larger strips differ from
/// strip to strip.
pub const SMALL_STRIP: f64 = 1024.0;

/// Rows per block of the moment form: sums over them stay in working precision, their features in L2 (157 KB at
/// degree 2 and 16 coordinates in f32), and one register tile's features with the rows' values in L1.
pub const MOMENT_ROWS: usize = 256;

/// Most parts that the moments' rows are cut into, each with sums of its own: enough to keep 64 threads busy.
pub const MOMENT_PARTS: usize = 64;

/// Bytes of all parts' sums together, where more than two parts are to be had: they count against the memory promised.
pub const MOMENT_BYTES: usize = 4 << 20;

/// Bytes of the moments of one wave of chunks of a causal problem, where more than two chunks are to be had: threads
/// wait for one another three times a wave, so waves should be long, and this is a quarter of the memory promised.
pub const WAVE_BYTES: usize = 8 << 20;

/// Rows that centring and balancing look at: the covariance's error of 1/√1024 costs nothing, as any choice is valid.
pub const SAMPLE_ROWS: usize = 1024;

/// Most coordinates that are balanced: the eigenvectors of more cost more than they save.
pub const BALANCED_MOST: usize = 256;
