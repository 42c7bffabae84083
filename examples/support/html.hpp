#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace support {

/// Text as it may stand in HTML, between tags and in quoted attributes.
std::string html_escape(std::string_view text);

/// RFC 4648, section 4.
std::string base64(std::string_view bytes);

/// An <img> that holds the bytes of a PNG file itself. Throws flowmatch::DataError for bytes that
/// are no PNG; `name` appears in the message.
std::string html_image(std::string_view png, std::string_view alt, const std::string& name);

/// A table of texts. Without a head, each row is a name and what it stands for; with one, all cells
/// but a row's first hold numbers.
std::string html_table(const std::vector<std::string>& head,
                       const std::vector<std::vector<std::string>>& rows);

/// A page that loads nothing and runs nothing, readable in light and dark, on screens and on paper;
/// `body` is HTML. Its style knows the classes of the functions above and of svg_plot.
std::string html_page(const std::string& title, const std::string& body);

}  // namespace support
