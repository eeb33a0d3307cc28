/* What the figures stand beside: memcpy, and SQLite through its C interface with nothing of ours around it. */
#ifndef EDGE_FLOOR_H
#define EDGE_FLOOR_H
#include <stddef.h>
#include <stdint.h>

/* memcpy that the compiler neither removes nor merges with its neighbours. */
void floor_copy(void *to, const void *from, size_t bytes);
/* Makes the compiler believe that the value is used. */
void floor_keep(uint64_t value);
/* The checksum of a WAL as SQLite's own source adds it up, word after word. */
void floor_wal_checksum(const void *page, size_t bytes, uint32_t sums[2]);

/* One connection to t(id INTEGER PRIMARY KEY, name TEXT, v BLOB), with its prepared statements. All functions return 0
   or a result code of SQLite. */
typedef struct floor_database floor_database;
int floor_open(const char *path, floor_database **database);
void floor_close(floor_database *database);
int floor_execute(floor_database *database, const char *sql);
/* The first column of the first row, by a connection that only reads and is closed again. */
int floor_look(const char *path, const char *sql, int64_t *value);
/* `count` transactions: 100 random bytes into a random one of `rows` rows. */
int floor_update(floor_database *database, int count, uint32_t rows);
/* `count` transactions of one new row with 100 random bytes. */
int floor_insert(floor_database *database, int count);
/* `count` times the name of a random one of `rows` rows, each in a read transaction of its own. */
int floor_select(floor_database *database, int count, uint32_t rows);
/* Fills `doc(id INTEGER PRIMARY KEY, title TEXT, body TEXT)` with text until the file is so large, in one transaction. */
int floor_fill(floor_database *database, int megabytes);
/* All pages as of now, in one piece that `floor_free` takes back; NULL when memory runs out. */
uint8_t *floor_pages(floor_database *database, int64_t *bytes);
void floor_free(uint8_t *pages);
#endif
