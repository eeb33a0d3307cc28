/* The floors that are C: see floor.h. */
#include "floor.h"
#include <sqlite3.h>
#include <stdlib.h>
#include <string.h>

void floor_copy(void *to, const void *from, size_t bytes) {
  memcpy(to, from, bytes);
  __asm__ volatile("" ::: "memory");
}

void floor_keep(uint64_t value) { __asm__ volatile("" ::"r"(value)); }

/* Source: walChecksumBytes in https://sqlite.org/src/file/src/wal.c, for the machine's own byte order */
void floor_wal_checksum(const void *page, size_t bytes, uint32_t sums[2]) {
  const uint32_t *word = page;
  const uint32_t *end = word + bytes / sizeof *word;
  uint32_t s1 = sums[0], s2 = sums[1];
  do {
    s1 += *word++ + s2;
    s2 += *word++ + s1;
  } while (word < end);
  sums[0] = s1;
  sums[1] = s2;
}

struct floor_database {
  sqlite3 *handle;
  sqlite3_stmt *update, *insert, *select;
  uint64_t state;
};

/* https://prng.di.unimi.it/splitmix64.c */
static uint64_t next(floor_database *database) {
  uint64_t z = (database->state += 0x9e3779b97f4a7c15);
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
  z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
  return z ^ (z >> 31);
}

int floor_open(const char *path, floor_database **database) {
  floor_database *opened = calloc(1, sizeof *opened);
  *database = opened;
  if (!opened) return SQLITE_NOMEM;
  opened->state = 1;
  return sqlite3_open_v2(path, &opened->handle,
                         SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_NOMUTEX, NULL);
}

void floor_close(floor_database *database) {
  if (!database) return;
  sqlite3_finalize(database->update);
  sqlite3_finalize(database->insert);
  sqlite3_finalize(database->select);
  sqlite3_close(database->handle);
  free(database);
}

int floor_execute(floor_database *database, const char *sql) {
  return sqlite3_exec(database->handle, sql, NULL, NULL, NULL);
}

int floor_look(const char *path, const char *sql, int64_t *value) {
  sqlite3 *handle = NULL;
  sqlite3_stmt *statement = NULL;
  int code = sqlite3_open_v2(path, &handle, SQLITE_OPEN_READONLY | SQLITE_OPEN_NOMUTEX, NULL);
  if (code == SQLITE_OK) code = sqlite3_prepare_v2(handle, sql, -1, &statement, NULL);
  if (code == SQLITE_OK) code = sqlite3_step(statement);
  if (code == SQLITE_ROW) *value = sqlite3_column_int64(statement, 0);
  sqlite3_finalize(statement);
  sqlite3_close(handle);
  return code == SQLITE_ROW ? SQLITE_OK : SQLITE_ERROR;
}

static int prepare(floor_database *database, sqlite3_stmt **statement, const char *sql) {
  if (*statement) return SQLITE_OK;
  return sqlite3_prepare_v3(database->handle, sql, -1, SQLITE_PREPARE_PERSISTENT, statement, NULL);
}

static void bind_random(floor_database *database, sqlite3_stmt *statement, uint64_t bytes[13]) {
  for (int i = 0; i < 13; i++) bytes[i] = next(database);
  sqlite3_bind_blob(statement, 1, bytes, 100, SQLITE_STATIC);
}

int floor_update(floor_database *database, int count, uint32_t rows) {
  int code = prepare(database, &database->update, "UPDATE t SET v = ? WHERE id = ?");
  uint64_t bytes[13];
  for (; code == SQLITE_OK && count > 0; count--) {
    bind_random(database, database->update, bytes);
    sqlite3_bind_int64(database->update, 2, 1 + next(database) % rows);
    sqlite3_step(database->update);
    code = sqlite3_reset(database->update);
  }
  return code;
}

int floor_insert(floor_database *database, int count) {
  int code = prepare(database, &database->insert, "INSERT INTO t(v) VALUES (?)");
  uint64_t bytes[13];
  for (; code == SQLITE_OK && count > 0; count--) {
    bind_random(database, database->insert, bytes);
    sqlite3_step(database->insert);
    code = sqlite3_reset(database->insert);
  }
  return code;
}

int floor_select(floor_database *database, int count, uint32_t rows) {
  int code = prepare(database, &database->select, "SELECT name FROM t WHERE id = ?");
  for (; code == SQLITE_OK && count > 0; count--) {
    sqlite3_bind_int64(database->select, 1, 1 + next(database) % rows);
    if (sqlite3_step(database->select) == SQLITE_ROW) {
      floor_keep((uint64_t)(uintptr_t)sqlite3_column_text(database->select, 0));
      code = sqlite3_reset(database->select);
    } else {
      code = sqlite3_reset(database->select);
      if (code == SQLITE_OK) code = SQLITE_NOTFOUND;
    }
  }
  return code;
}

/* 80 words of a small vocabulary: about half of it goes away when it is compressed, as with most text. */
static int make_text(floor_database *database, char *text) {
  static const char *const words[] = {
      "the",     "water",  "station", "and",    "measured", "in",       "replica", "north",
      "every",   "hour",   "with",    "bridge", "under",    "morning",  "signal",  "from",
      "harbour", "report", "clear",   "which",  "line",     "between",  "train",   "two",
      "found",   "valley", "at",      "before", "repair",   "pressure", "was",     "new"};
  int length = 0;
  for (int word = 0; word < 80; word++) {
    const char *next_word = words[next(database) % 32];
    while (*next_word) text[length++] = *next_word++;
    text[length++] = ' ';
    if (word % 16 == 0)
      for (int digit = 0; digit < 4; digit++) text[length++] = (char)('0' + next(database) % 10);
  }
  return length;
}

int floor_fill(floor_database *database, int megabytes) {
  sqlite3_stmt *insert = NULL;
  char text[2048];
  int code = floor_execute(database, "BEGIN; CREATE TABLE doc(id INTEGER PRIMARY KEY, title TEXT, body TEXT)");
  if (code == SQLITE_OK) code = prepare(database, &insert, "INSERT INTO doc(title, body) VALUES ('a report', ?)");
  int64_t left = (int64_t)megabytes * 1000000;
  while (code == SQLITE_OK && left > 0) {
    int length = make_text(database, text);
    sqlite3_bind_text(insert, 1, text, length, SQLITE_STATIC);
    sqlite3_step(insert);
    code = sqlite3_reset(insert);
    left -= length + 60;
  }
  sqlite3_finalize(insert);
  if (code == SQLITE_OK) code = floor_execute(database, "COMMIT");
  return code;
}

uint8_t *floor_pages(floor_database *database, int64_t *bytes) {
  sqlite3_int64 size = 0;
  unsigned char *pages = sqlite3_serialize(database->handle, "main", &size, 0);
  *bytes = size;
  return pages;
}

void floor_free(uint8_t *pages) { sqlite3_free(pages); }
