// A C face of tkrzw's HashDBM: its own C face allocates for each value.
#include <tkrzw_dbm_hash.h>

#include <cstdint>
#include <string>

using tkrzw::HashDBM;
using tkrzw::Status;

extern "C" {

typedef void (*see_item)(void* context, const char* key, size_t key_len,
                         const char* value, size_t len);

HashDBM* tkrzw_open(const char* path, int write, int64_t buckets) {
  HashDBM* db = new HashDBM;
  HashDBM::TuningParameters tuning;
  tuning.num_buckets = buckets;
  if (!db->OpenAdvanced(path, write, tkrzw::File::OPEN_DEFAULT, tuning).IsOK()) {
    delete db;
    return nullptr;
  }
  return db;
}

int tkrzw_close(HashDBM* db) {
  bool closed = db->Close().IsOK();
  delete db;
  return closed;
}

int tkrzw_put(HashDBM* db, const char* key, size_t key_len, const char* value, size_t len) {
  return db->Set(std::string_view(key, key_len), std::string_view(value, len)).IsOK();
}

std::string* tkrzw_buffer() { return new std::string; }

void tkrzw_free_buffer(std::string* buffer) { delete buffer; }

// 1 and the value, which the buffer holds until its next use; 0 where there is none, -1 where
// something failed.
int tkrzw_get(HashDBM* db, const char* key, size_t key_len, std::string* buffer,
              const char** value, size_t* len) {
  Status status = db->Get(std::string_view(key, key_len), buffer);
  if (status == Status::NOT_FOUND_ERROR) return 0;
  if (!status.IsOK()) return -1;
  *value = buffer->data();
  *len = buffer->size();
  return 1;
}

int tkrzw_check(HashDBM* db, const char* key, size_t key_len) {
  Status status = db->Get(std::string_view(key, key_len), nullptr);
  if (status == Status::NOT_FOUND_ERROR) return 0;
  return status.IsOK() ? 1 : -1;
}

int tkrzw_delete(HashDBM* db, const char* key, size_t key_len) {
  Status status = db->Remove(std::string_view(key, key_len));
  return status.IsOK() || status == Status::NOT_FOUND_ERROR;
}

int tkrzw_list(HashDBM* db, see_item see, void* context) {
  class Lister : public tkrzw::DBM::RecordProcessor {
   public:
    Lister(see_item see, void* context) : see_(see), context_(context) {}

    std::string_view ProcessFull(std::string_view key, std::string_view value) override {
      see_(context_, key.data(), key.size(), value.data(), value.size());
      return NOOP;
    }

   private:
    see_item see_;
    void* context_;
  } lister(see, context);
  return db->ProcessEach(&lister, false).IsOK();
}
}
