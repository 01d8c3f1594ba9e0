/* Reading Parquet files with Apache Arrow's C++ libraries, see parquet_file.h. Every public function catches all
 * exceptions. */
#include <arrow/api.h>
#include <arrow/io/file.h>
#include <parquet/arrow/reader.h>
#include <parquet/arrow/schema.h>
#include <parquet/properties.h>

#include <exception>
#include <memory>
#include <new>
#include <string>
#include <string_view>
#include <vector>

extern "C" {
#include "data/documents/parquet_file.h"
}

namespace {

constexpr int64_t BATCH_ROWS = 256;

/* An error with a status code, for guarded(). */
struct failure {
    int code;
    std::string message;
};

[[noreturn]] void raise(int code, const std::string &message) {
    throw failure{code, message};
}

} // namespace

struct parquet_file {
    const char *path = nullptr;
    std::unique_ptr<parquet::arrow::FileReader> reader;
    std::shared_ptr<arrow::Schema> schema;
    std::string columns;
    int64_t rows = 0, rows_read = 0;

    int row_group = 0; /* the next one to open */
    std::unique_ptr<arrow::RecordBatchReader> batches;
    std::shared_ptr<arrow::RecordBatch> batch;
    int64_t at = 0; /* next row in the batch */
    std::vector<int64_t> numbers;
};

namespace {

void check(const parquet_file *p, const arrow::Status &status) {
    if (status.ok()) return;
    int code = status.IsOutOfMemory()      ? LCKV_ERROR_MEMORY
               : status.IsNotImplemented() ? LCKV_ERROR_UNSUPPORTED
                                           : LCKV_ERROR_FORMAT;
    std::string where = p->rows_read ? " after row " + std::to_string(p->rows_read) : "";
    raise(code, "cannot read '" + std::string(p->path) + "'" + where + ": " + status.message());
}

template <typename T> T take(const parquet_file *p, arrow::Result<T> result) {
    check(p, result.status());
    return std::move(result).ValueUnsafe();
}

[[noreturn]] void raise_at(const parquet_file *p, const std::string &what) {
    raise(LCKV_ERROR_FORMAT, std::string(p->path) + ":" + std::to_string(p->rows_read) + ": " + what);
}

/* Runs `work` and converts exceptions to a status. */
template <typename Work> int guarded(const char *path, Work work) noexcept {
    try {
        work();
        return LCKV_OK;
    } catch (const failure &f) {
        return fail(f.code, "%s", f.message.c_str());
    } catch (const std::bad_alloc &) {
        return fail(LCKV_ERROR_MEMORY, "no memory to read '%s'", path);
    } catch (const std::exception &e) {
        return fail(LCKV_ERROR_FORMAT, "cannot read '%s': %s", path, e.what());
    } catch (...) {
        return fail(LCKV_ERROR_FORMAT, "cannot read '%s'", path);
    }
}

/* ---------------------------------------------------------------- opening */

void open_reader(parquet_file *p) {
    auto file = arrow::io::ReadableFile::Open(p->path);
    if (!file.ok()) raise(LCKV_ERROR_FILE, "cannot open '" + std::string(p->path) + "': " + file.status().message());
    parquet::ReaderProperties properties = parquet::default_reader_properties();
    properties.enable_buffered_stream(); /* read pages on demand, not whole row groups */
    parquet::ArrowReaderProperties how;
    how.set_batch_size(BATCH_ROWS);
    how.set_pre_buffer(false);
    how.set_use_threads(false);
    parquet::arrow::FileReaderBuilder builder;
    check(p, builder.Open(*file, properties));
    p->reader = take(p, builder.memory_pool(arrow::default_memory_pool())->properties(how)->Build());
    check(p, p->reader->GetSchema(&p->schema));
    for (const auto &name : p->schema->field_names()) p->columns += (p->columns.empty() ? "" : ", ") + name;
    p->rows = p->reader->parquet_reader()->metadata()->num_rows();
}

/* ---------------------------------------------------------------- batches */

/* Collects the leaf columns of a field. */
void add_leaves(const parquet::arrow::SchemaField &field, std::vector<int> *leaves) {
    if (field.column_index >= 0) leaves->push_back(field.column_index);
    for (const auto &child : field.children) add_leaves(child, leaves);
}

std::vector<int> leaves_of(const parquet_file *p, const char *column) {
    std::vector<int> leaves;
    for (const auto &field : p->reader->manifest().schema_fields)
        if (!column || field.field->name() == column) add_leaves(field, &leaves);
    return leaves;
}

/* Advances to the next row; false at the end. */
bool advance(parquet_file *p, const char *column) {
    while (!p->batch || p->at == p->batch->num_rows()) {
        p->batch = nullptr;
        p->at = 0;
        if (p->batches) check(p, p->batches->ReadNext(&p->batch));
        if (p->batch) continue;
        if (p->row_group == p->reader->num_row_groups()) return false;
        p->batches = take(p, p->reader->GetRecordBatchReader({p->row_group++}, leaves_of(p, column)));
    }
    p->at++;
    p->rows_read++;
    return true;
}

/* ---------------------------------------------------------------- values */

bool text_at(const arrow::Array &array, int64_t row, std::string_view *out) {
    switch (array.type_id()) {
    case arrow::Type::STRING:
        *out = static_cast<const arrow::StringArray &>(array).GetView(row);
        return true;
    case arrow::Type::LARGE_STRING:
        *out = static_cast<const arrow::LargeStringArray &>(array).GetView(row);
        return true;
    case arrow::Type::STRING_VIEW:
        *out = static_cast<const arrow::StringViewArray &>(array).GetView(row);
        return true;
    case arrow::Type::DICTIONARY: {
        const auto &coded = static_cast<const arrow::DictionaryArray &>(array);
        int64_t entry = coded.GetValueIndex(row);
        return entry >= 0 && entry < coded.dictionary()->length() && text_at(*coded.dictionary(), entry, out);
    }
    default:
        return false;
    }
}

template <typename A> int64_t number(const arrow::Array &array, int64_t row) {
    return static_cast<int64_t>(static_cast<const A &>(array).Value(row));
}

bool number_at(const arrow::Array &array, int64_t row, int64_t *out) {
    switch (array.type_id()) {
    case arrow::Type::INT8:
        return *out = number<arrow::Int8Array>(array, row), true;
    case arrow::Type::INT16:
        return *out = number<arrow::Int16Array>(array, row), true;
    case arrow::Type::INT32:
        return *out = number<arrow::Int32Array>(array, row), true;
    case arrow::Type::INT64:
        return *out = number<arrow::Int64Array>(array, row), true;
    case arrow::Type::UINT8:
        return *out = number<arrow::UInt8Array>(array, row), true;
    case arrow::Type::UINT16:
        return *out = number<arrow::UInt16Array>(array, row), true;
    case arrow::Type::UINT32:
        return *out = number<arrow::UInt32Array>(array, row), true;
    case arrow::Type::UINT64:
        return *out = number<arrow::UInt64Array>(array, row), true;
    default:
        return false;
    }
}

template <typename L> std::shared_ptr<arrow::Array> slice(const arrow::Array &array, int64_t row) {
    return static_cast<const L &>(array).value_slice(row);
}

/* The elements of a list; NULL if it is not a list. */
std::shared_ptr<arrow::Array> list_at(const arrow::Array &array, int64_t row) {
    switch (array.type_id()) {
    case arrow::Type::LIST:
        return slice<arrow::ListArray>(array, row);
    case arrow::Type::LARGE_LIST:
        return slice<arrow::LargeListArray>(array, row);
    case arrow::Type::FIXED_SIZE_LIST:
        return slice<arrow::FixedSizeListArray>(array, row);
    default:
        return nullptr;
    }
}

void read_numbers(parquet_file *p, const char *column, const arrow::Array &list) {
    p->numbers.resize(static_cast<size_t>(list.length()));
    for (int64_t i = 0; i < list.length(); i++)
        if (list.IsNull(i) || !number_at(list, i, &p->numbers[static_cast<size_t>(i)]))
            raise_at(p, "'" + std::string(column) + "': expected text or a list of integers, found " +
                            (list.IsNull(i) ? "null" : "a list of " + list.type()->ToString()));
}

void read_value(parquet_file *p, const char *column, parquet_value *out) {
    const arrow::Array &array = *p->batch->column(0);
    std::string_view text;
    int64_t row = p->at - 1;
    *out = parquet_value{};
    if (array.IsNull(row)) raise_at(p, "'" + std::string(column) + "' is null");
    if (text_at(array, row, &text)) {
        out->text = text.data() ? text.data() : "";
        out->bytes = text.size();
        return;
    }
    auto list = list_at(array, row);
    if (!list)
        raise_at(p, "'" + std::string(column) + "': expected text or a list of integers, found " +
                        array.type()->ToString());
    read_numbers(p, column, *list);
    out->numbers = p->numbers.data();
    out->count = list->length();
}

/* ---------------------------------------------------------------- rows as JSON */

json_t *json_at(const arrow::Array &array, int64_t row);

/* Passes on a new JSON value; NULL: there was no memory, or the text is not UTF-8. */
json_t *made(json_t *value) {
    if (!value) raise(LCKV_ERROR_FORMAT, "the text is not UTF-8, or there is no memory");
    return value;
}

struct json_release {
    void operator()(json_t *value) const {
        json_decref(value);
    }
};
using json_owner = std::unique_ptr<json_t, json_release>;

/* Checks the result of adding to a JSON container. */
void put(int failed) {
    if (failed) raise(LCKV_ERROR_FORMAT, "the name is not UTF-8, or there is no memory");
}

json_t *list_as_json(const arrow::Array &list) {
    json_owner out(made(json_array()));
    for (int64_t i = 0; i < list.length(); i++) put(json_array_append_new(out.get(), json_at(list, i)));
    return out.release();
}

json_t *struct_as_json(const arrow::StructArray &array, int64_t row) {
    json_owner out(made(json_object()));
    for (int i = 0; i < array.num_fields(); i++)
        put(json_object_set_new(out.get(), array.struct_type()->field(i)->name().c_str(),
                                json_at(*array.field(i), row)));
    return out.release();
}

/* Types without JSON counterpart (dates, decimals, bytes) become strings as Arrow formats them. */
json_t *other_as_json(const arrow::Array &array, int64_t row) {
    auto scalar = array.GetScalar(row);
    if (!scalar.ok()) raise(LCKV_ERROR_FORMAT, scalar.status().message());
    std::string text = (*scalar)->ToString();
    return made(json_stringn(text.data(), text.size()));
}

json_t *json_at(const arrow::Array &array, int64_t row) {
    std::string_view text;
    int64_t whole;
    if (array.IsNull(row)) return json_null();
    if (text_at(array, row, &text)) return made(json_stringn(text.data() ? text.data() : "", text.size()));
    if (number_at(array, row, &whole)) return made(json_integer(whole));
    if (auto list = list_at(array, row)) return list_as_json(*list);
    switch (array.type_id()) {
    case arrow::Type::BOOL:
        return json_boolean(static_cast<const arrow::BooleanArray &>(array).Value(row));
    case arrow::Type::FLOAT:
        return made(json_number_or_null(static_cast<const arrow::FloatArray &>(array).Value(row)));
    case arrow::Type::DOUBLE:
        return made(json_number_or_null(static_cast<const arrow::DoubleArray &>(array).Value(row)));
    case arrow::Type::STRUCT:
        return struct_as_json(static_cast<const arrow::StructArray &>(array), row);
    default:
        return other_as_json(array, row);
    }
}

json_t *row_as_json(const parquet_file *p) {
    json_owner out(made(json_object()));
    for (int i = 0; i < p->batch->num_columns(); i++) {
        try {
            json_t *value = json_at(*p->batch->column(i), p->at - 1);
            put(json_object_set_new(out.get(), p->batch->column_name(i).c_str(), value));
        } catch (const failure &f) {
            raise_at(p, "'" + p->batch->column_name(i) + "': " + f.message);
        }
    }
    return out.release();
}

} // namespace

/* ---------------------------------------------------------------- public functions */

int parquet_open(const char *path, parquet_file **out) {
    *out = nullptr;
    return guarded(path, [&] {
        auto p = std::make_unique<parquet_file>();
        p->path = path;
        open_reader(p.get());
        *out = p.release();
    });
}

void parquet_close(parquet_file *p) {
    if (p) guarded(p->path, [&] { delete p; });
}

bool parquet_has_column(const parquet_file *p, const char *name) {
    return p->schema->GetFieldIndex(name) >= 0;
}

const char *parquet_columns(const parquet_file *p) {
    return p->columns.c_str();
}

int64_t parquet_rows(const parquet_file *p) {
    return p->rows;
}

int64_t parquet_rows_read(const parquet_file *p) {
    return p->rows_read;
}

int parquet_next_value(parquet_file *p, const char *column, parquet_value *out, bool *found) {
    *found = false;
    return guarded(p->path, [&] {
        if (!advance(p, column)) return;
        read_value(p, column, out);
        *found = true;
    });
}

int parquet_next_row(parquet_file *p, json_t **out, bool *found) {
    *out = nullptr;
    *found = false;
    return guarded(p->path, [&] {
        if (!advance(p, nullptr)) return;
        *out = row_as_json(p);
        *found = true;
    });
}
