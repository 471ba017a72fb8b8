// The version's header is in C++, the rest of the program in C.
#include <rocksdb/version.h>

#define TEXT_OF(value) #value
#define TEXT(value) TEXT_OF(value)

extern "C" {
extern const char rocksdb_version_text[];
const char rocksdb_version_text[] = TEXT(ROCKSDB_MAJOR) "." TEXT(
    ROCKSDB_MINOR) "." TEXT(ROCKSDB_PATCH);
}
