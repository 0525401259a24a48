// A C face of Kyoto Cabinet's HashDB: its own C face goes through another layer and copies more.
#include <kchashdb.h>

#include <cstdint>

using kyotocabinet::DB;
using kyotocabinet::HashDB;

extern "C" {

typedef void (*see_value)(void* context, const char* value, size_t len);
typedef void (*see_item)(void* context, const char* key, size_t key_len,
                         const char* value, size_t len);

HashDB* kyoto_open(const char* path, int write, int64_t buckets) {
  HashDB* db = new HashDB;
  // The default maps 64 MiB, and reads and writes the rest by system calls.
  db->tune_map(int64_t(4) << 30);
  db->tune_buckets(buckets);
  uint32_t mode = write ? HashDB::OWRITER | HashDB::OCREATE : HashDB::OREADER;
  if (!db->open(path, mode)) {
    delete db;
    return nullptr;
  }
  return db;
}

int kyoto_close(HashDB* db) {
  bool closed = db->close();
  delete db;
  return closed;
}

int kyoto_put(HashDB* db, const char* key, size_t key_len, const char* value, size_t len) {
  return db->set(key, key_len, value, len);
}

// The length of the value, of which as much as fits was copied; -1 where there is none, -2 where
// something failed.
int64_t kyoto_get(HashDB* db, const char* key, size_t key_len, char* buffer, size_t room) {
  int32_t len = db->get(key, key_len, buffer, room);
  if (len < 0 && db->error().code() != kyotocabinet::BasicDB::Error::NOREC) return -2;
  return len;
}

int kyoto_check(HashDB* db, const char* key, size_t key_len) {
  int32_t len = db->check(key, key_len);
  if (len >= 0) return 1;
  return db->error().code() == kyotocabinet::BasicDB::Error::NOREC ? 0 : -1;
}

int kyoto_delete(HashDB* db, const char* key, size_t key_len) {
  return db->remove(key, key_len) ||
         db->error().code() == kyotocabinet::BasicDB::Error::NOREC;
}

int kyoto_list(HashDB* db, see_item see, void* context) {
  class Lister : public DB::Visitor {
   public:
    Lister(see_item see, void* context) : see_(see), context_(context) {}

   private:
    const char* visit_full(const char* key, size_t key_len, const char* value, size_t len,
                           size_t*) override {
      see_(context_, key, key_len, value, len);
      return NOP;
    }
    see_item see_;
    void* context_;
  } lister(see, context);
  return db->iterate(&lister, false);
}
}
