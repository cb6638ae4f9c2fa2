/** Common English words, most of them one token in most vocabularies: the material of the prompts. */
export const COMMON_WORDS: readonly string[] = `
about above across after again against age air all almost along already also always among animal another
answer any appear area arm around ask away baby back ball bank base bear beat beauty become bed before began
behind believe best better between big bird black blue board boat body book both bottom bought box boy bring
brother brought build busy call came capital car care carry case catch cause center certain chair chance
change check child children choose circle city class clean clear close clothes cloud cold color come common
complete contain control cook cool copy corner correct could country course cover cross crowd cry cut dance
dark day deal dear decide deep depend desert develop differ dinner direct distance doctor dog dollar door down
draw dream dress drink drive drop dry during each ear early earth east easy eat edge effect egg else end enemy
energy engine enough enter equal even evening event ever every exact example except excite exercise expect eye
face fact fair fall family famous far farm fast father favor fear feel feet few field fight figure fill final
find fine finger finish fire first fish fit five flat floor flow flower follow food foot force forest form
forward found four free fresh friend front fruit full fun game garden gather gave general gentle girl give
glad glass gold good got govern grand grass gray great green grew ground group grow guess guide hair half hand
happen happy hard hat head hear heart heat heavy held help here high hill history hit hold hole home hope
horse hot hour house how huge human hundred hunt hurry ice idea include inch industry insect interest iron
island job join joy jump just keep kept key kill kind king knew know lady lake land language large last late
laugh law lay lead learn leave left leg length less letter level lie life lift light like line list listen
little live long look lost loud love low machine made main major make man many map mark market master match
material matter mean measure meat meet metal method middle might mile milk million mind mine minute miss mix
modern moment money month moon more morning most mother mountain mouth move much music must name nation
natural nature near necessary need never new next night nine noise noon north nose note nothing notice noun
number object observe ocean off offer office often oil old once one only open order other our out over own
page paint pair paper parent part party pass past path pay people perhaps person picture piece place plain
plan plane planet plant play please point poor port position possible power practice prepare present press
pretty print problem process produce product promise proper protect prove provide pull push put question quick
quiet quite race radio rain raise ran reach read ready real reason record red remember repeat reply rest
result rich ride right ring rise river road rock roll room root rope rose round row rule run safe said sail
salt same sand sat save saw say school science score sea season seat second see seem select sell send sense
sentence separate serve set seven several shape share sharp she sheet ship shirt shoe shop shore short should
show side sign silent silver simple since sing sister sit six size skill skin sleep slip slow small smell
smile snow soft soil soldier solution some son song soon sound south space speak special speech speed spell
spend spoke spot spread spring square stand star start state station stay steam steel step still stone stood
stop store story straight strange stream street stretch string strong student study subject success such
sudden sugar suit summer sun supply support sure surface surprise swim symbol system table tail take talk tall
teach team tell ten term test than thank that their them then there these thick thin thing think third this
those though thought thousand three through throw time tiny tire together told tone too took tool top total
touch toward town track trade train travel tree triangle trip trouble truck true try tube turn twenty two type
under unit until up use usual valley value vary very view village visit voice wait walk wall want war warm
wash watch water wave way weak wear weather week weight well went were west what wheel when where which while
white who whole whose why wide wife wild will win wind window winter wish with woman wonder wood word work
world would write wrong yard year yellow yes yet young
`
  .trim()
  .split(/\s+/);
