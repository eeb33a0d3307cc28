/* What Swift cannot import by itself: variadic functions, destructor constants that are casts, memory
   barriers for the wal-index that several processes share, and what glibc hides behind _GNU_SOURCE.
   No logic beyond that. */
#ifndef EDGE_CSQLITE_SHIM_H
#define EDGE_CSQLITE_SHIM_H
#include <sqlite3.h>
#include <stdint.h>

static inline int edge_db_config_int(sqlite3 *db, int op, int value, int *result) {
  return sqlite3_db_config(db, op, value, result);
}
static inline int edge_bind_text_transient(sqlite3_stmt *s, int i, const char *p, sqlite3_uint64 n) {
  return sqlite3_bind_text64(s, i, p, n, SQLITE_TRANSIENT, SQLITE_UTF8);
}
static inline int edge_bind_blob_transient(sqlite3_stmt *s, int i, const void *p, sqlite3_uint64 n) {
  return sqlite3_bind_blob64(s, i, p, n, SQLITE_TRANSIENT);
}
static inline uint32_t edge_load_u32(const volatile void *p) {
  return __atomic_load_n((const volatile uint32_t *)p, __ATOMIC_ACQUIRE);
}
static inline void edge_store_u32(volatile void *p, uint32_t v) {
  __atomic_store_n((volatile uint32_t *)p, v, __ATOMIC_RELEASE);
}
static inline void edge_store_u16(volatile void *p, uint16_t v) {
  __atomic_store_n((volatile uint16_t *)p, v, __ATOMIC_RELEASE);
}
static inline uint16_t edge_load_u16(const volatile void *p) {
  return __atomic_load_n((const volatile uint16_t *)p, __ATOMIC_ACQUIRE);
}
extern int sync_file_range(int descriptor, int64_t offset, int64_t count, unsigned int flags);
/* SYNC_FILE_RANGE_WRITE */
static inline int edge_begin_writeback(int descriptor) {
  return sync_file_range(descriptor, 0, 0, 2);
}
static inline void edge_fence(void) { __atomic_thread_fence(__ATOMIC_SEQ_CST); }
#endif
