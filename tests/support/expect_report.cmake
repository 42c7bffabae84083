# The reports in FOLDER show what they should, and load nothing from elsewhere.
cmake_minimum_required(VERSION 3.25)
file(READ "${FOLDER}/report.html" report)
file(READ "${FOLDER}/watched/report.html" watched)
file(READ "${FOLDER}/default.html" of_default)
file(READ "${FOLDER}/figures.json" figures)
string(JSON fid GET "${figures}" samples fid)
string(REGEX MATCH "^[0-9]+" fid "${fid}")

function(expect_in text)
  foreach(part IN LISTS ARGN)
    string(FIND "${${text}}" "${part}" at)
    if(at EQUAL -1)
      message(FATAL_ERROR "${text} has no ${part}")
    endif()
  endforeach()
endfunction()

expect_in(
  report
  "<title>Run run</title>"
  "<th scope=\"row\">steps</th><td>2</td>"
  "<svg "
  "alt=\"Samples after epoch 1: a grid"
  "src=\"data:image/png;base64,"
  "alt=\"Picture animation.png\""
  "<td>45</td><td>${fid}."
  "trained on the test images that it is judged by"
  "<th scope=\"row\">widths</th><td>16,32,64,128</td>"
  "<th scope=\"row\">learning_rate</th>"
  "<th scope=\"row\">LibTorch</th>")
expect_in(watched "<title>Run watched</title>" "validation</span>" "None were given")
expect_in(of_default "<th scope=\"row\">steps of the end</th><td>2</td>" "Loss over 5 steps" "alt=\"Samples after the end: a grid"
          "<summary>The end</summary>")
foreach(page IN ITEMS report watched of_default)
  foreach(never IN ITEMS "<script" "http:" "https:" "url\\(" "@import" "<link" "src=\"[^d]")
    string(REGEX MATCH "${never}" found "${${page}}")
    if(found)
      message(FATAL_ERROR "${page} has ${found}")
    endif()
  endforeach()
endforeach()
